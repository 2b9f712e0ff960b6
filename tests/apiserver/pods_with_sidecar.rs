//! The identity of a pod is its sidecar's alone, and what AgentWrit reads of a pod is fixed once it has the sidecar.

use agentwrit_protocol::inject::{CONTAINER_NAME, POD_ANNOTATIONS};
use http::Method;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::chart::POLICIES;
use crate::objects::{create_pod, pod_json, pods, times_slower, very_many, warnings};
use crate::world::{World, wait};

async fn guarded(choice: &str) -> World {
    World::with_labels("with-sidecar", json!({POLICIES: choice})).await
}

/// A pod with a volume of its own.
fn pod(name: &str, inject: bool) -> Value {
    let mut pod = pod_json();
    pod["metadata"]["name"] = json!(name);
    pod["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    if !inject {
        pod["metadata"]["labels"] = json!({"agentwrit.io/inject": "false"});
    }
    pod
}

fn debugger(name: &str, more: &Value) -> Value {
    let mut container = json!({"name": name, "image": "debug", "terminationMessagePolicy": "File"});
    for (key, value) in more.as_object().unwrap() {
        container[key] = value.clone();
    }
    container
}

fn mounting(volume: &str) -> Value {
    json!({"volumeMounts": [{"name": volume, "mountPath": "/mnt"}]})
}

/// `kubectl debug`: adds an ephemeral container.
async fn debug(world: &World, pod: &str, containers: &[Value]) -> Result<Vec<String>, String> {
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/ephemeralcontainers", world.namespace);
    let added = json!({"spec": {"ephemeralContainers": containers}});
    warnings(world, Method::PATCH, &path, &added).await
}

async fn change(world: &World, path: &str, metadata: &Value) -> Result<Vec<String>, String> {
    let path = format!("/api/v1/namespaces/{}/pods/{path}", world.namespace);
    warnings(world, Method::PATCH, &path, &json!({"metadata": metadata})).await
}

#[tokio::test]
async fn ephemeral_containers_keep_off_what_is_the_sidecars() {
    let world = guarded("defaults").await;
    create_pod(&world, pod("shop", true)).await;
    for (more, parts) in [
        (
            mounting("agentwrit-identity"),
            [
                "spec.ephemeralContainers: debugger mounts volume agentwrit-identity",
                "remove that mount",
            ],
        ),
        (
            mounting("agentwrit-token"),
            [
                "spec.ephemeralContainers: debugger mounts volume agentwrit-token",
                "remove that mount",
            ],
        ),
        (
            json!({"targetContainerName": "agentwrit-sidecar"}),
            [
                "spec.ephemeralContainers: targetContainerName of debugger is \"agentwrit-sidecar\"",
                "it must be one of the other containers of the pod, or unset",
            ],
        ),
        (
            json!({"securityContext": {"privileged": true}}),
            [
                "spec.ephemeralContainers: debugger is privileged",
                "leave out securityContext.privileged",
            ],
        ),
    ] {
        let refused = debug(&world, "shop", &[debugger("debugger", &more)]).await.unwrap_err();
        assert!(refused.contains("denied request"), "{refused}");
        assert!(parts.iter().all(|part| refused.contains(part)), "{refused}");
        // Among others too.
        let among = [debugger("good", &json!({})), debugger("debugger", &more)];
        let refused = debug(&world, "shop", &among).await.unwrap_err();
        assert!(refused.contains(parts[0]), "{refused}");
    }
    let mut containers = Vec::new();
    for (name, more) in [
        ("plain", json!({})),
        ("with-target", json!({"targetContainerName": "app"})),
        ("with-own-volume", mounting("data")),
        ("not-privileged", json!({"securityContext": {"privileged": false}})),
    ] {
        containers.push(debugger(name, &more));
        assert_eq!(debug(&world, "shop", &containers).await, Ok(vec![]), "{name}");
    }
    world.done().await;
}

#[tokio::test]
async fn ephemeral_containers_of_other_pods_are_allowed() {
    let world = guarded("defaults").await;
    let mut other = pod("other", false);
    other["spec"]["volumes"] = json!([{"name": "agentwrit-own", "emptyDir": {}}]);
    create_pod(&world, other).await;
    let mounting = debugger("debugger", &mounting("agentwrit-own"));
    assert_eq!(debug(&world, "other", &[mounting]).await, Ok(vec![]));
    world.done().await;
}

#[tokio::test]
async fn existing_debug_containers_do_not_block_later_ones() {
    let world = World::new("with-sidecar").await;
    create_pod(&world, pod("shop", true)).await;
    let old = debugger("old", &mounting("agentwrit-identity"));
    assert_eq!(debug(&world, "shop", std::slice::from_ref(&old)).await, Ok(vec![]));
    let namespace = format!("/api/v1/namespaces/{}", world.namespace);
    let guard = json!({"metadata": {"labels": {POLICIES: "defaults"}}});
    warnings(&world, Method::PATCH, &namespace, &guard).await.unwrap();
    let remove = json!({"annotations": {"agentwrit.io/launch-token": null}});
    wait("the policies are for this namespace", || async {
        change(&world, "shop?dryRun=All", &remove).await.err()
    })
    .await;
    let good = [old.clone(), debugger("good", &json!({}))];
    assert_eq!(debug(&world, "shop", &good).await, Ok(vec![]));
    let [old, good] = good;
    let bad = debugger("bad", &mounting("agentwrit-token"));
    let refused = debug(&world, "shop", &[old, good, bad]).await.unwrap_err();
    assert!(refused.contains("bad mounts volume agentwrit-token"), "{refused}");
    world.done().await;
}

#[tokio::test]
async fn labels_and_annotations_of_ours_are_fixed() {
    let world = guarded("defaults").await;
    let mut shop = pod("shop", true);
    shop["metadata"]["annotations"]["agentwrit.io/ttl-seconds"] = json!("60");
    create_pod(&world, shop).await;
    let table = [
        (
            json!({"annotations": {"agentwrit.io/launch-token": "writer"}}),
            r#"metadata.annotations[agentwrit.io/launch-token] must stay "reader" and can not become "writer""#,
        ),
        (
            json!({"annotations": {"agentwrit.io/launch-token": "a\nb"}}),
            r#"metadata.annotations[agentwrit.io/launch-token] must stay "reader" and can not become "a\nb""#,
        ),
        (
            json!({"annotations": {"agentwrit.io/ttl-seconds": null}}),
            r#"metadata.annotations[agentwrit.io/ttl-seconds] must stay "60" and can not become unset"#,
        ),
        (
            json!({"annotations": {"agentwrit.io/scopes": "read:orders:1", "team": "shop"}}),
            r#"metadata.annotations[agentwrit.io/scopes] must stay unset and can not become "read:orders:1""#,
        ),
        (
            json!({"annotations": {"agentwrit.io/scopes": "x".repeat(100_000)}}),
            "metadata.annotations: those of AgentWrit are fixed",
        ),
        (
            json!({"labels": {"agentwrit.io/injected": null}}),
            r#"metadata.labels[agentwrit.io/injected] must stay "true" and can not become unset"#,
        ),
        (
            json!({"labels": {"agentwrit.io/inject": "false"}}),
            r#"metadata.labels[agentwrit.io/inject] must stay "true" and can not become "false""#,
        ),
    ];
    for (metadata, part) in &table {
        for path in ["shop", "shop/status"] {
            let refused = change(&world, path, metadata).await.unwrap_err();
            assert!(
                refused.contains("denied request") && refused.contains(part),
                "{refused}"
            );
            assert!(
                refused.contains("change the template of the pod and have it replaced"),
                "{refused}"
            );
        }
    }
    let all_gone = json!({"labels": null, "annotations": null});
    assert!(change(&world, "shop", &all_gone).await.is_err());
    for metadata in [
        json!({"labels": {"team": "shop"}, "annotations": {"example.org/x": "y"}}),
        json!({"labels": {"team": null, "xagentwrit.io/a": "b", "agentwrit.io/unknown": "x"}}),
        json!({"annotations": {"agentwrit.io/launch-token": "reader"}}),
    ] {
        assert_eq!(change(&world, "shop", &metadata).await, Ok(vec![]), "{metadata}");
    }
    world.done().await;
}

#[tokio::test]
async fn pods_without_the_sidecar_may_be_changed() {
    let world = guarded("defaults").await;
    create_pod(&world, pod("other", false)).await;
    for (metadata, pod) in [
        (json!({"annotations": {"agentwrit.io/launch-token": "writer"}}), "other"),
        (json!({"labels": {"agentwrit.io/inject": "disabled"}}), "other"),
    ] {
        assert_eq!(change(&world, pod, &metadata).await, Ok(vec![]), "{metadata}");
    }
    world.done().await;
}

/// A pod as `kubectl debug` copies it: no label of ours, but the sidecar.
fn copied(name: &str) -> Value {
    let mut copied = pod(name, false);
    copied["metadata"].as_object_mut().unwrap().remove("labels");
    copied["spec"]["initContainers"] = json!([{
        "name": "agentwrit-sidecar", "image": "agentwrit-sidecar", "restartPolicy": "Always",
    }]);
    copied
}

#[tokio::test]
async fn no_debug_container_joins_a_pod_that_shares_processes() {
    let world = guarded("defaults").await;
    for (name, field) in [("host", "hostPID"), ("shared", "shareProcessNamespace")] {
        let mut pod = copied(name);
        pod["spec"][field] = json!(true);
        create_pod(&world, pod).await;
        let refused = debug(&world, name, &[debugger("debugger", &json!({}))])
            .await
            .unwrap_err();
        let says = format!("debugger can not be added: spec.{field} of the pod is true");
        assert!(
            refused.contains(&says) && refused.contains("--share-processes=false"),
            "{refused}"
        );
    }
    let mut off = copied("off");
    off["spec"]["shareProcessNamespace"] = json!(false);
    create_pod(&world, off).await;
    assert_eq!(
        debug(&world, "off", &[debugger("debugger", &json!({}))]).await,
        Ok(vec![])
    );
    world.done().await;
}

#[tokio::test]
async fn the_sidecars_image_is_fixed_and_no_others() {
    let world = guarded("defaults").await;
    let path = |name: &str| format!("/api/v1/namespaces/{}/pods/{name}", world.namespace);
    create_pod(&world, copied("shop")).await;
    let mut other = copied("other");
    other["spec"]["initContainers"][0]["name"] = json!("sidecar");
    create_pod(&world, other).await;
    for (name, list, denied) in [
        ("shop", "initContainers", true),
        ("shop", "containers", false),
        ("other", "initContainers", false),
    ] {
        let stored = serde_json::to_value(pods(&world).get(name).await.unwrap()).unwrap();
        let mut containers = stored["spec"][list].clone();
        containers[0]["image"] = json!("another");
        let changed = json!({"spec": {list: containers}});
        let result = warnings(&world, Method::PATCH, &path(name), &changed).await;
        if denied {
            let sentence = result.unwrap_err();
            let says = "the image of agentwrit-sidecar must stay \"agentwrit-sidecar\" and can not become \"another\"";
            assert!(
                sentence.contains(says) && sentence.contains("have the pod replaced"),
                "{sentence}"
            );
        } else {
            assert_eq!(result, Ok(vec![]), "{name} {list}");
        }
    }
    world.done().await;
}

#[tokio::test]
async fn a_pod_without_our_label_is_guarded_too() {
    let world = guarded("defaults").await;
    create_pod(&world, copied("copied")).await;
    let refused = change(
        &world,
        "copied",
        &json!({"annotations": {"agentwrit.io/launch-token": "writer"}}),
    )
    .await;
    assert!(refused.unwrap_err().contains("must stay \"reader\""));
    world.done().await;
}

/// The same in words only, where the values say so.
#[tokio::test]
async fn the_other_choice_is_a_warning() {
    let world = guarded("others").await;
    create_pod(&world, pod("shop", true)).await;
    let changed = change(&world, "shop", &json!({"labels": {"agentwrit.io/injected": null}})).await;
    let changed = changed.unwrap().join("\n");
    assert!(
        changed.contains("metadata.labels[agentwrit.io/injected] must stay"),
        "{changed}"
    );
    let target = debugger("debugger", &json!({"targetContainerName": "agentwrit-sidecar"}));
    let added = debug(&world, "shop", &[target]).await.unwrap().join("\n");
    assert!(added.contains("whose identity it could read"), "{added}");
    world.done().await;
}

/// Whoever may make a pod could otherwise keep the API server busy with every change of it.
#[tokio::test]
async fn very_many_labels_cost_the_api_server_nothing() {
    let world = guarded("defaults").await;
    for list in ["labels", "annotations"] {
        let with = |name: &str, container: &str| {
            let mut pod = copied(name);
            pod["spec"]["initContainers"][0]["name"] = json!(container);
            pod["metadata"][list] = very_many();
            // They would take as many bytes again.
            pod["metadata"]["managedFields"] = json!([{}]);
            pod
        };
        create_pod(&world, with("many", CONTAINER_NAME)).await;
        create_pod(&world, with("other", "sidecar")).await;
        let path = |pod: &str| format!("/api/v1/namespaces/{}/pods/{pod}/status?dryRun=All", world.namespace);
        let changed = json!({"metadata": {list: {"7": "x"}}});
        let (guarded, other) = (path("many"), path("other"));
        let ratio = times_slower(&world, &Method::PATCH, (&guarded, &changed), (&other, &changed)).await;
        assert!(ratio < 4.0, "{list}: {ratio} times");
        let refused = change(
            &world,
            "many",
            &json!({list: {"agentwrit.io/inject": "x", "agentwrit.io/scopes": "x"}}),
        )
        .await;
        assert!(
            refused
                .unwrap_err()
                .contains("must stay unset and can not become \"x\"")
        );
        for pod in ["many", "other"] {
            let parameters = DeleteParams::default().grace_period(0);
            pods(&world).delete(pod, &parameters).await.unwrap();
        }
    }
    world.done().await;
}

/// The chart names them one by one.
#[tokio::test]
async fn every_annotation_that_the_webhook_knows_is_fixed() {
    let world = guarded("defaults").await;
    create_pod(&world, copied("copied")).await;
    for key in POD_ANNOTATIONS {
        let refused = change(&world, "copied?dryRun=All", &json!({"annotations": {key: "new"}})).await;
        let says = format!("metadata.annotations[{key}] must stay ");
        assert!(
            refused.as_ref().is_err_and(|sentence| sentence.contains(&says)),
            "{key}: {refused:?}"
        );
    }
    world.done().await;
}
