//! Injection by the real API server: what is stored, what is refused, what is warned of.

mod refusals;

use agentwrit_protocol::inject::{CONTAINER_NAME, LABEL_INJECTED};
use http::Method;
use k8s_openapi::api::admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::objects::{
    create_app, create_pod, create_token, pod_json, pods, sentence, token_becomes, try_create_pod, warnings,
};
use crate::world::{World, wait};

fn restricted() -> Value {
    json!({"pod-security.kubernetes.io/enforce": "restricted"})
}

fn init_names(pod: &Pod) -> Vec<String> {
    let inits = pod.spec.as_ref().unwrap().init_containers.iter().flatten();
    inits.map(|container| container.name.clone()).collect()
}

fn with(pointer: &str, value: Value) -> Value {
    let mut pod = pod_json();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    pod.pointer_mut(parent).unwrap()[key] = value;
    pod
}

/// Creates a pod and answers the warnings that `kubectl` would show.
async fn warnings_of(world: &World, pod: &Value) -> Vec<String> {
    let path = format!("/api/v1/namespaces/{}/pods", world.namespace);
    warnings(world, Method::POST, &path, pod).await.unwrap()
}

#[tokio::test]
async fn a_pod_in_a_restricted_namespace_gets_the_sidecar_first() {
    let world = World::with_labels("webhook", restricted()).await;
    let mut pod = pod_json();
    pod["spec"]["initContainers"] = json!([{
        "name": "prepare", "image": "prepare",
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    }]);
    let pod = create_pod(&world, pod).await;
    assert_eq!(init_names(&pod), [CONTAINER_NAME, "prepare"]);
    assert_eq!(pod.labels()[LABEL_INJECTED], "true");
    let stored = serde_json::to_value(&pod).unwrap();
    let sidecar = &stored["spec"]["initContainers"][0];
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert_eq!(
        sidecar["startupProbe"]["httpGet"],
        json!({"path": "/startup", "port": 15081, "scheme": "HTTP"})
    );
    assert_eq!(sidecar["startupProbe"]["failureThreshold"], json!(i32::MAX));
    // Set though empty, which the API server doesn't write out: an envFrom sets only what is unset.
    for name in ["AGENTWRIT_SCOPES", "AGENTWRIT_TTL_SECONDS"] {
        let variables = sidecar["env"].as_array().unwrap();
        assert!(variables.contains(&json!({"name": name})), "{name}: {variables:?}");
    }
    assert_eq!(
        sidecar["resources"],
        json!({"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "16Mi"}})
    );
    let volumes = stored["spec"]["volumes"].as_array().unwrap();
    let identity = volumes
        .iter()
        .find(|volume| volume["name"] == "agentwrit-identity")
        .unwrap();
    let token = &identity["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(token["audience"], format!("agentwrit://{}/agentwrit", world.release));
    assert_eq!(token["expirationSeconds"], 600);
    for (list, index) in [("initContainers", 1), ("containers", 0)] {
        let container = &stored["spec"][list][index];
        let mounts = container["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["name"] == "agentwrit-token").unwrap();
        assert_eq!(mount["readOnly"], true);
        let of_the_sidecar = ["agentwrit-identity", "agentwrit-empty"];
        assert!(
            mounts
                .iter()
                .all(|mount| !of_the_sidecar.iter().any(|name| mount["name"] == *name))
        );
        assert_eq!(container["env"][0]["name"], "AGENTWRIT_TOKEN_FILE");
    }
    world.done().await;
}

/// Where Kubernetes mounts a pod's default API token.
const API_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

fn at_api_token(container: &Value) -> Vec<&Value> {
    let mounts = container["volumeMounts"].as_array().unwrap();
    mounts.iter().filter(|mount| mount["mountPath"] == API_TOKEN).collect()
}

#[tokio::test]
async fn the_pods_default_api_token_is_hidden_from_the_sidecar() {
    let world = World::new("webhook").await;
    let stored = serde_json::to_value(create_pod(&world, pod_json()).await).unwrap();
    let app = at_api_token(&stored["spec"]["containers"][0]);
    let name = app[0]["name"].as_str().unwrap();
    assert!(
        name.starts_with("kube-api-access-"),
        "Kubernetes mounts it where nothing else is: {name}"
    );
    let hidden = json!({"name": "agentwrit-empty", "mountPath": API_TOKEN, "readOnly": true});
    assert_eq!(at_api_token(&stored["spec"]["initContainers"][0]), [&hidden]);
    let empty = json!({"name": "agentwrit-empty", "emptyDir": {"medium": "Memory", "sizeLimit": "4Ki"}});
    assert!(stored["spec"]["volumes"].as_array().unwrap().contains(&empty));
    world.done().await;
}

/// As version f4273ee injected pods: Kubernetes then gave the token to the sidecar too.
#[tokio::test]
async fn a_pod_that_was_injected_before_is_completed() {
    let world = World::new("webhook").await;
    let mut stored = serde_json::to_value(create_pod(&world, pod_json()).await).unwrap();
    let token = at_api_token(&stored["spec"]["containers"][0])[0].clone();
    let whole = stored["spec"].clone();
    let spec = &mut stored["spec"];
    spec["volumes"]
        .as_array_mut()
        .unwrap()
        .retain(|volume| volume["name"] != "agentwrit-empty");
    for mount in spec["initContainers"][0]["volumeMounts"].as_array_mut().unwrap() {
        if mount["name"] == "agentwrit-empty" {
            mount.clone_from(&token);
        }
    }
    stored["metadata"] = json!({
        "name": "before", "labels": stored["metadata"]["labels"], "annotations": stored["metadata"]["annotations"],
    });
    stored.as_object_mut().unwrap().remove("status");
    let again = serde_json::to_value(create_pod(&world, stored).await).unwrap();
    assert_eq!(again["spec"]["initContainers"], whole["initContainers"]);
    let names = |spec: &Value| {
        let volumes = spec["volumes"].as_array().unwrap().iter();
        let mut names: Vec<String> = volumes.map(|volume| volume["name"].to_string()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names(&again["spec"]), names(&whole));
    world.done().await;
}

#[tokio::test]
async fn a_stored_pods_manifest_can_be_created_again() {
    let world = World::new("webhook").await;
    let mut stored = serde_json::to_value(create_pod(&world, pod_json()).await).unwrap();
    let before = stored["spec"].clone();
    stored["metadata"] = json!({
        "name": "again", "labels": stored["metadata"]["labels"], "annotations": stored["metadata"]["annotations"],
    });
    stored.as_object_mut().unwrap().remove("status");
    let again = serde_json::to_value(create_pod(&world, stored).await).unwrap();
    assert_eq!(again["spec"], before);
    world.done().await;
}

#[tokio::test]
async fn a_dry_run_shows_the_injection_and_stores_nothing() {
    let world = World::new("webhook").await;
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let pod = serde_json::from_value(pod_json()).unwrap();
    let shown = pods(&world).create(&parameters, &pod).await.unwrap();
    assert_eq!(init_names(&shown), [CONTAINER_NAME]);
    assert!(pods(&world).get_opt("shop").await.unwrap().is_none());
    world.done().await;
}

#[tokio::test]
async fn an_enabled_namespace_injects_with_its_default_launch_token() {
    let labels = json!({"agentwrit.io/inject": "enabled"});
    let world = World::with(
        "webhook",
        labels,
        json!({"agentwrit.io/default-launch-token": "common"}),
    )
    .await;
    let mut plain = pod_json();
    plain["metadata"] = json!({"name": "plain"});
    let pod = create_pod(&world, plain).await;
    assert_eq!(init_names(&pod), [CONTAINER_NAME]);
    assert_eq!(pod.annotations()["agentwrit.io/launch-token"], "common");

    let mut declined = pod_json();
    declined["metadata"] = json!({"name": "declined", "labels": {"agentwrit.io/inject": "false"}});
    let pod = create_pod(&world, declined).await;
    assert_eq!(init_names(&pod), Vec::<String>::new());
    world.done().await;
}

#[tokio::test]
async fn labels_of_pods_and_namespaces_have_the_same_four_words() {
    let default = json!({"agentwrit.io/default-launch-token": "common"});
    let world = World::with("webhook", json!({"agentwrit.io/inject": "true"}), default).await;
    for (label, injected) in [
        (None, true),
        (Some("enabled"), true),
        (Some("true"), true),
        (Some("disabled"), false),
        (Some("false"), false),
    ] {
        let mut pod = pod_json();
        let labels = label.map(|value| json!({"agentwrit.io/inject": value}));
        pod["metadata"] = json!({"name": format!("pod-{}", label.unwrap_or("none")), "labels": labels});
        let created = create_pod(&world, pod).await;
        assert_eq!(
            init_names(&created).contains(&CONTAINER_NAME.to_owned()),
            injected,
            "{label:?}"
        );
    }
    world.done().await;
}

#[tokio::test]
async fn the_mirror_of_a_static_pod_is_left_alone() {
    let default = json!({"agentwrit.io/default-launch-token": "common"});
    let world = World::with("webhook", json!({"agentwrit.io/inject": "enabled"}), default).await;
    let mut mirror = pod_json();
    mirror["metadata"] = json!({"name": "static-node", "annotations": {"kubernetes.io/config.mirror": "3f2a"}});
    mirror["spec"]["nodeName"] = json!("node");
    mirror["spec"]["hostNetwork"] = json!(true);
    let mirror = create_pod(&world, mirror).await;
    assert_eq!(init_names(&mirror), Vec::<String>::new());
    world.done().await;
}

#[tokio::test]
async fn a_namespace_that_doesnt_ask_is_left_alone() {
    let world = World::new("webhook").await;
    let mut plain = pod_json();
    plain["metadata"] = json!({"name": "plain"});
    let pod = create_pod(&world, plain).await;
    assert_eq!(init_names(&pod), Vec::<String>::new());
    world.done().await;
}

#[tokio::test]
async fn the_pods_of_a_deployment_are_injected() {
    let world = World::new("webhook").await;
    let template = pod_json();
    let deployment = json!({
        "metadata": {"name": "shop"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"agentwrit.io/inject": "true"}},
            "template": {
                "metadata": {"labels": template["metadata"]["labels"], "annotations": template["metadata"]["annotations"]},
                "spec": template["spec"],
            },
        },
    });
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), &world.namespace);
    deployments
        .create(&PostParams::default(), &serde_json::from_value(deployment).unwrap())
        .await
        .unwrap();
    let pod = wait("the Deployment's pod", || async {
        pods(&world)
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .into_iter()
            .next()
    })
    .await;
    assert_eq!(init_names(&pod), [CONTAINER_NAME]);
    world.done().await;
}

#[tokio::test]
async fn readiness_and_metrics_are_on_the_ops_listener() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::new("webhook").await;
    create_pod(&world, pod_json()).await;
    let get = |path: &'static str| async move {
        // Without keep-alive: the answer ends with the connection.
        let mut stream = tokio::net::TcpStream::connect(world.ops).await.unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    wait("readiness", || async {
        get("/readyz").await.starts_with("HTTP/1.0 200").then_some(())
    })
    .await;
    assert!(get("/livez").await.starts_with("HTTP/1.0 200"));
    let metrics = get("/metrics").await;
    assert!(
        metrics.contains("agentwrit_controller_admissions_total{outcome=\"injected\"}"),
        "{metrics}"
    );
    assert!(metrics.contains("agentwrit_controller_leader 1"), "{metrics}");
    world.done().await;
}
