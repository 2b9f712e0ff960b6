//! What the webhook makes of a pod, as the API server stored it.

use agentwrit_protocol::inject;
use k8s_openapi::api::core::v1::{Container, Namespace, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::support::cluster::shared;
use crate::support::pod::{POD_START, PodSpec, app, container, sidecar};
use crate::support::shop::{Shop, from};
use crate::support::wait::{eventually, seconds};

fn mounts(container: &Container) -> Vec<(String, String, bool)> {
    let mounts = container.volume_mounts.iter().flatten();
    mounts
        .filter(|mount| mount.name.starts_with(inject::RESERVED_PREFIX))
        .map(|mount| {
            (
                mount.name.clone(),
                mount.mount_path.clone(),
                mount.read_only == Some(true),
            )
        })
        .collect()
}

fn env(container: &Container, name: &str) -> Option<String> {
    let variable = container.env.iter().flatten().find(|variable| variable.name == name);
    variable.and_then(|variable| variable.value.clone())
}

#[tokio::test]
async fn an_injected_pod_is_as_documented_and_passes_restricted() {
    let _installation = shared().await;
    let shop = Shop::open("shape").await;
    let mut spec = PodSpec::reader("reader").annotation(inject::ANNOTATION_CONTAINERS, "app,prepare");
    spec.0["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(container("other", &["client", "--token-file=/none"]));
    spec.0["spec"]["initContainers"] = json!([container("prepare", &["--version"])]);
    shop.running_pod(&spec).await;
    let pod: Pod = shop.pod("reader").await;
    assert_eq!(pod.metadata.labels.as_ref().unwrap()[inject::LABEL_INJECTED], "true");
    let spec = pod.spec.clone().unwrap();
    let inits = spec.init_containers.as_ref().unwrap();
    let first = &inits[0];
    assert_eq!(first.name, inject::CONTAINER_NAME, "the sidecar is first in line");
    assert_eq!(first.restart_policy.as_deref(), Some("Always"), "a native sidecar");

    // Without this probe the application would start without a token.
    let startup = first.startup_probe.as_ref().expect("the sidecar has a startupProbe");
    let get = startup.http_get.as_ref().expect("by HTTP");
    assert_eq!(get.path.as_deref(), Some(inject::HEALTH_STARTUP_PATH));
    assert!(startup.failure_threshold.unwrap() > 86_400, "practically endless");
    let ready = first
        .readiness_probe
        .as_ref()
        .expect("the sidecar has a readinessProbe");
    assert_eq!(
        ready.http_get.as_ref().unwrap().path.as_deref(),
        Some(inject::HEALTH_READY_PATH)
    );

    for name in [inject::ENV_SCOPES, inject::ENV_TTL_SECONDS] {
        let variable = first.env.iter().flatten().find(|variable| variable.name == name);
        let value = variable.map(|variable| variable.value.as_deref().unwrap_or_default());
        assert_eq!(value, Some(""), "{name}: an envFrom sets only what is unset");
    }

    let context = first.security_context.as_ref().unwrap();
    assert_eq!(context.allow_privilege_escalation, Some(false));
    assert_eq!(context.read_only_root_filesystem, Some(true));
    assert_eq!(context.run_as_non_root, Some(true));
    assert_eq!(
        context.capabilities.as_ref().unwrap().drop.as_deref(),
        Some(&["ALL".to_owned()][..])
    );
    let resources = serde_json::to_value(first.resources.as_ref().unwrap()).unwrap();
    let right = json!({"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "16Mi"}});
    assert_eq!(resources, right);

    // The identity is the sidecar's alone; the token is read-only wherever it is asked for, and nowhere else.
    let writable = (inject::VOLUME_TOKEN.to_owned(), inject::TOKEN_DIR.to_owned(), false);
    let read_only = (inject::VOLUME_TOKEN.to_owned(), inject::TOKEN_DIR.to_owned(), true);
    let identity = (
        inject::VOLUME_IDENTITY.to_owned(),
        inject::IDENTITY_DIR.to_owned(),
        true,
    );
    // Nothing is where the pod's API token would be.
    let empty = (inject::VOLUME_EMPTY.to_owned(), inject::API_TOKEN_DIR.to_owned(), true);
    let mut of_sidecar = mounts(first);
    of_sidecar.sort();
    assert_eq!(of_sidecar, [empty, identity, writable]);
    let at_api_token = first.volume_mounts.iter().flatten();
    let at_api_token = at_api_token.filter(|mount| mount.mount_path == inject::API_TOKEN_DIR);
    assert_eq!(at_api_token.count(), 1, "Kubernetes added none");
    for chosen in [&spec.containers[0], &inits[1]] {
        assert_eq!(mounts(chosen), std::slice::from_ref(&read_only), "{}", chosen.name);
        assert_eq!(env(chosen, inject::ENV_TOKEN_FILE).as_deref(), Some(inject::TOKEN_FILE));
    }
    assert_eq!(
        mounts(&spec.containers[1]),
        [],
        "not among the containers of the annotation"
    );
    assert_eq!(env(&spec.containers[1], inject::ENV_TOKEN_FILE), None);

    let volume = spec
        .volumes
        .iter()
        .flatten()
        .find(|volume| volume.name == inject::VOLUME_TOKEN)
        .unwrap();
    assert_eq!(
        volume.empty_dir.as_ref().unwrap().medium.as_deref(),
        Some("Memory"),
        "the token never reaches a disk"
    );
    assert_eq!(sidecar(&pod).unwrap().restart_count, 0);
    assert_eq!(app(&pod).unwrap().restart_count, 0);
}

#[tokio::test]
async fn the_application_starts_only_when_the_token_is_there() {
    let _installation = shared().await;
    let shop = Shop::open("order").await;
    // An ordinary init container right behind the sidecar exits 0 only if it finds a token file to read.
    let mut spec = PodSpec::reader("reader");
    spec.0["spec"]["restartPolicy"] = json!("Never");
    spec.0["spec"]["initContainers"] = json!([container(
        "check",
        &["client", "--once", "--service-url=http://127.0.0.1:9"]
    )]);
    spec.0["spec"]["initContainers"][0]["name"] = json!("check");
    shop.create_pod(&spec).await;
    // It can't reach a service, but it says who it is: the file was there at its first look.
    let line = shop.log_line("reader", "check", &["I am spiffe://"], POD_START).await;
    assert!(line.contains("scopes read:orders:*"), "{line}");
    assert!(
        !shop.logs("reader", "check").contains("no token"),
        "{}",
        shop.logs("reader", "check")
    );
}

#[tokio::test]
async fn a_namespace_can_opt_in_and_a_pod_of_it_out() {
    let _installation = shared().await;
    let shop = Shop::open("whole").await;
    let namespaces: Api<Namespace> = Api::all(shop.client.clone());
    let opted_in = json!({"metadata": {
        "labels": {inject::LABEL_INJECT: inject::INJECT_ENABLED},
        "annotations": {inject::ANNOTATION_DEFAULT_LAUNCH_TOKEN: "order-reader"},
    }});
    let patch = Patch::Merge(opted_in);
    let patched = namespaces.patch(&shop.namespace, &PatchParams::default(), &patch).await;
    patched.unwrap();
    let mut plain = PodSpec::reader("plain");
    plain.0["metadata"] = json!({"name": "plain"});
    let mut out = PodSpec::reader("out");
    out.0["metadata"] = json!({"name": "out", "labels": {inject::LABEL_INJECT: "false"}});
    out.0["spec"]["containers"][0]["args"] = json!(["client", "--token-file=/none"]);

    // The webhook learns of the namespace's annotation through its watch.
    let pods: Api<Pod> = shop.api();
    eventually("the webhook knows the namespace's default", seconds(10), async || {
        let created = pods.create(&PostParams::default(), &from(plain.0.clone())).await;
        created.map_err(|error| error.to_string())
    })
    .await;
    shop.create_pod(&out).await;
    shop.pod_ready("plain", POD_START).await;
    shop.pod_ready("out", POD_START).await;
    let injected = shop.pod("plain").await.metadata;
    assert_eq!(injected.labels.unwrap()[inject::LABEL_INJECTED], "true");
    assert_eq!(
        injected.annotations.unwrap()[inject::ANNOTATION_LAUNCH_TOKEN],
        "order-reader"
    );
    shop.token("plain").expect("it has a token");
    let left_alone = shop.pod("out").await;
    assert_eq!(left_alone.spec.unwrap().init_containers, None);
}

#[tokio::test]
async fn a_pod_that_names_no_launch_token_is_refused_with_a_sentence() {
    let _installation = shared().await;
    let shop = Shop::bare("unnamed").await;
    let mut spec = PodSpec::reader("reader");
    spec.0["metadata"]["annotations"] = json!({});
    let pods: Api<Pod> = shop.api();
    let refused = pods
        .create(&PostParams::default(), &from(spec.0))
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains(inject::ANNOTATION_LAUNCH_TOKEN), "{refused}");
}
