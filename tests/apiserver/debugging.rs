//! The commands of docs/debugging.md on injected pods, by the real kubectl.

use std::path::Path;
use std::process::Stdio;

use agentwrit_protocol::inject::CONTAINER_NAME;
use agentwrit_tests::documents::blocks_of;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::chart::POLICIES;
use crate::objects::{create_pod, pod_json, pods};
use crate::world::World;

/// What kubectl says, with its code.
async fn kubectl(world: &World, arguments: &str) -> (bool, String) {
    let output = Command::new("kubectl")
        .args(["--namespace", &world.namespace])
        .args(arguments.split_whitespace())
        .output()
        .await
        .expect(
            "kubectl is in PATH: run these tests by `scripts/test.sh apiserver`, or evaluate `scripts/cluster.sh env`",
        );
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.success(), said.concat())
}

async fn done(world: &World, arguments: &str) -> String {
    let (success, said) = kubectl(world, arguments).await;
    assert!(success, "kubectl {arguments}: {said}");
    said
}

async fn refused(world: &World, arguments: &str, parts: &[&str]) {
    let (success, said) = kubectl(world, arguments).await;
    assert!(!success, "kubectl {arguments}: {said}");
    assert!(
        parts.iter().all(|part| said.contains(part)),
        "kubectl {arguments}: {said}"
    );
}

async fn guarded(labels: Value) -> World {
    let mut labels = labels;
    labels[POLICIES] = json!("defaults");
    World::with(
        "debugging",
        labels,
        json!({"agentwrit.io/default-launch-token": "reader"}),
    )
    .await
}

async fn stored(world: &World, name: &str) -> Value {
    serde_json::to_value(pods(world).get(name).await.unwrap()).unwrap()
}

/// What a script says, with its code, where the test's namespace is kubectl's own: the page's commands name none.
async fn bash(world: &World, folder: &Path, script: &str) -> (bool, String) {
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .env("KUBECONFIG", folder.join("kubeconfig"))
        .env("NAMESPACE", &world.namespace)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.success(), said.concat())
}

#[tokio::test]
async fn the_pages_commands_work_as_written() {
    let world = guarded(json!({})).await;
    create_pod(&world, pod_json()).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(std::env::var("KUBECONFIG").unwrap(), folder.path().join("kubeconfig")).unwrap();
    let here = "kubectl config set-context --current --namespace \"$NAMESPACE\"";
    let (success, said) = bash(&world, folder.path(), here).await;
    assert!(success, "{said}");
    for block in blocks_of(file!()).unwrap() {
        let (success, said) = bash(&world, folder.path(), &block.text).await;
        assert!(success, "{}: {said}", block.place());
        // The page says to delete a copy before the next.
        let (success, said) = bash(
            &world,
            folder.path(),
            "kubectl delete pod shop-debug --ignore-not-found",
        )
        .await;
        assert!(success, "{said}");
    }
    world.done().await;
}

#[tokio::test]
async fn a_debug_container_targets_any_container_but_the_sidecar() {
    let world = guarded(json!({})).await;
    create_pod(&world, pod_json()).await;
    done(&world, "debug shop --image=busybox --target=app --container=look").await;
    let restricted = "debug shop --image=busybox --target=app --profile=restricted --container=restricted";
    done(&world, restricted).await;
    let target = format!("debug shop --image=busybox --target={CONTAINER_NAME}");
    refused(
        &world,
        &target,
        &["targetContainerName of", "whose identity it could read"],
    )
    .await;
    let privileged = "debug shop --image=busybox --profile=sysadmin";
    refused(
        &world,
        privileged,
        &["is privileged", "leave out securityContext.privileged"],
    )
    .await;
    let image = format!("set image pod/shop {CONTAINER_NAME}=busybox");
    refused(&world, &image, &["the image of agentwrit-sidecar must stay"]).await;
    let shop = stored(&world, "shop").await;
    let names: Vec<&str> = shop["spec"]["ephemeralContainers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|container| container["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["look", "restricted"]);
    world.done().await;
}

#[tokio::test]
async fn a_copy_keeps_the_sidecar_and_loses_labels_and_annotations() {
    let world = guarded(json!({})).await;
    create_pod(&world, pod_json()).await;
    done(&world, "debug shop --image=busybox --copy-to=shop-debug").await;
    let (shop, copy) = (stored(&world, "shop").await, stored(&world, "shop-debug").await);
    assert_eq!(copy["metadata"]["labels"], Value::Null);
    assert_eq!(copy["metadata"]["annotations"], Value::Null);
    let (own, copied) = (&shop["spec"]["initContainers"][0], &copy["spec"]["initContainers"][0]);
    for field in ["name", "env", "restartPolicy", "startupProbe", "readinessProbe"] {
        assert_eq!(own[field], copied[field], "{field}");
    }
    assert_eq!(copy["spec"]["shareProcessNamespace"], true);
    assert_eq!(copy["spec"]["containers"].as_array().unwrap().len(), 2);
    refused(
        &world,
        "debug shop-debug --image=busybox",
        &["spec.shareProcessNamespace of the pod is true"],
    )
    .await;

    done(
        &world,
        "debug shop --image=busybox --copy-to=bare --keep-init-containers=false",
    )
    .await;
    let bare = stored(&world, "bare").await;
    assert_eq!(bare["spec"]["initContainers"], Value::Null, "it has no token");
    world.done().await;
}

#[tokio::test]
async fn a_copy_with_its_labels_needs_its_annotations_too() {
    let world = World::with_labels("debugging", json!({POLICIES: "defaults"})).await;
    create_pod(&world, pod_json()).await;
    let copy = "debug shop --image=busybox --copy-to=shop-debug";
    refused(
        &world,
        &format!("{copy} --keep-labels"),
        &["spec.shareProcessNamespace: true"],
    )
    .await;
    let alone = "--share-processes=false";
    refused(
        &world,
        &format!("{copy} {alone} --keep-labels"),
        &["names no LaunchToken"],
    )
    .await;
    done(&world, &format!("{copy} {alone} --keep-labels --keep-annotations")).await;
    assert_eq!(
        stored(&world, "shop-debug").await["metadata"]["labels"]["agentwrit.io/injected"],
        "true"
    );
    world.done().await;
}

#[tokio::test]
async fn a_copy_where_the_namespace_injects_doesnt_share_processes() {
    let world = guarded(json!({"agentwrit.io/inject": "enabled"})).await;
    create_pod(&world, pod_json()).await;
    let copy = "debug shop --image=busybox --copy-to=shop-debug";
    refused(
        &world,
        copy,
        &["spec.shareProcessNamespace: true lets other processes see the sidecar's"],
    )
    .await;
    done(&world, &format!("{copy} --share-processes=false --keep-annotations")).await;
    let copy = stored(&world, "shop-debug").await;
    assert_eq!(copy["metadata"]["labels"]["agentwrit.io/injected"], "true");
    assert_eq!(copy["metadata"]["annotations"]["agentwrit.io/launch-token"], "reader");
    world.done().await;
}

#[tokio::test]
async fn a_restored_pod_is_taken_as_it_is() {
    let world = guarded(json!({})).await;
    create_pod(&world, pod_json()).await;
    let mut backup = stored(&world, "shop").await;
    let metadata = &backup["metadata"];
    backup["metadata"] = json!({
        "name": "restored", "labels": metadata["labels"], "annotations": metadata["annotations"],
    });
    backup.as_object_mut().unwrap().remove("status");
    create_pod(&world, backup.clone()).await;
    let before = backup["spec"].clone();
    assert_eq!(stored(&world, "restored").await["spec"], before);
    world.done().await;
}
