//! The end of a pod reaches the broker once, soon, and only when it is one; refusals become Events.

use std::time::Duration;

use agentwrit_client::system::SystemClock;
use agentwrit_protocol::Clock;
use agentwrit_protocol::k8s::{Denial, LivePod};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use crate::objects::{create_pod, event, pod_json, pods};
use crate::world::{World, wait, wait_for};

fn named(name: &str) -> Value {
    let mut pod = pod_json();
    pod["metadata"]["name"] = json!(name);
    // As if scheduled: the API server then waits for a kubelet before it lets go of the object.
    pod["spec"]["nodeName"] = json!("no-such-node");
    pod
}

fn at_once() -> DeleteParams {
    DeleteParams::default().grace_period(0)
}

async fn set_phase(world: &World, name: &str, phase: &str) {
    let patch = Patch::Merge(json!({"status": {"phase": phase}}));
    pods(world)
        .patch_status(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_deleted_pod_ends_when_it_is_gone_and_within_two_seconds() {
    let world = World::new("pods").await;
    let uid = create_pod(&world, named("shop")).await.uid().unwrap();
    pods(&world)
        .delete("shop", &DeleteParams::default().grace_period(600))
        .await
        .unwrap();
    let leaving = pods(&world).get("shop").await.unwrap();
    assert!(leaving.metadata.deletion_timestamp.is_some());

    // Another pod's end comes after this one's hint would have, so that the wait below proves something.
    let other = create_pod(&world, named("other")).await.uid().unwrap();
    pods(&world).delete("other", &at_once()).await.unwrap();
    wait("the other pod's end", || async { world.broker.end_of(&other) }).await;
    assert_eq!(world.broker.end_of(&uid).map(|end| end.reason), None, "it still exists");

    pods(&world).delete("shop", &at_once()).await.unwrap();
    let end = wait_for("the end", Duration::from_secs(2), || async {
        world.broker.end_of(&uid)
    })
    .await;
    assert_eq!((end.reason.as_str(), end.name.as_str()), ("deleted", "shop"));
    assert_eq!(end.namespace, world.namespace);
    world.done().await;
}

#[tokio::test]
async fn a_finished_pod_ends_although_its_object_stays() {
    let world = World::new("pods").await;
    for (name, phase, reason) in [("good", "Succeeded", "succeeded"), ("bad", "Failed", "failed")] {
        let uid = create_pod(&world, named(name)).await.uid().unwrap();
        set_phase(&world, name, "Running").await;
        set_phase(&world, name, phase).await;
        let end = wait("the end", || async { world.broker.end_of(&uid) }).await;
        assert_eq!(end.reason, reason);
    }
    world.done().await;
}

#[tokio::test]
async fn a_pod_that_only_lost_its_label_goes_on() {
    let world = World::new("pods").await;
    let uid = create_pod(&world, named("shop")).await.uid().unwrap();
    let unlabel = Patch::Merge(json!({"metadata": {"labels": {"agentwrit.io/injected": null}}}));
    pods(&world)
        .patch("shop", &PatchParams::default(), &unlabel)
        .await
        .unwrap();
    let other = create_pod(&world, named("other")).await.uid().unwrap();
    pods(&world).delete("other", &at_once()).await.unwrap();
    wait("the other pod's end", || async { world.broker.end_of(&other) }).await;
    assert!(world.broker.end_of(&uid).is_none());
    pods(&world).delete("shop", &at_once()).await.unwrap();
    world.done().await;
}

#[tokio::test]
async fn a_pod_that_ended_unseen_is_found_by_the_full_comparison() {
    let world = World::new("pods").await;
    let running = create_pod(&world, named("shop")).await.uid().unwrap();
    let gone = format!("gone-{}", world.namespace);
    {
        let mut memory = world.broker.memory();
        for (uid, name) in [(&running, "shop"), (&gone, "vanished")] {
            memory.pods.push(LivePod {
                uid: uid.clone(),
                namespace: world.namespace.clone(),
                name: name.into(),
            });
        }
        // Another store is one of the moments of a full comparison.
        memory.epoch.push('#');
    }
    let end = wait("the end", || async { world.broker.end_of(&gone) }).await;
    assert_eq!((end.reason.as_str(), end.name.as_str()), ("deleted", "vanished"));
    assert!(world.broker.end_of(&running).is_none());
    pods(&world).delete("shop", &at_once()).await.unwrap();
    world.done().await;
}

#[tokio::test]
async fn a_refused_pod_gets_an_event_that_names_launch_token_and_service_account() {
    let world = World::new("pods").await;
    let uid = create_pod(&world, named("shop")).await.uid().unwrap();
    {
        let mut memory = world.broker.memory();
        let cursor = memory.denials.last().map_or(1, |denial| denial.cursor + 1);
        memory.denials.push(Denial {
            cursor,
            at: SystemClock.now().format(&Rfc3339).unwrap(),
            namespace: world.namespace.clone(),
            pod: "shop".into(),
            pod_uid: uid.clone(),
            policy: "reader".into(),
            error_kind: "service_account_not_allowed".into(),
            message: "The pod's ServiceAccount is not listed.".into(),
        });
    }
    let event = event(&world, "ServiceAccountNotAllowed").await;
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    let regarding = event.regarding.unwrap();
    assert_eq!((regarding.kind.as_deref(), regarding.uid), (Some("Pod"), Some(uid)));
    let note = event.note.unwrap();
    assert!(
        note.contains("LaunchToken reader") && note.contains("ServiceAccount default"),
        "{note}"
    );
    pods(&world).delete("shop", &at_once()).await.unwrap();
    world.done().await;
}
