//! The end of a pod reaches the broker once, soon, and only when it is one; refusals become Events.

use std::time::Duration;

use agentwrit_protocol::Clock;
use agentwrit_protocol::k8s::{Denial, LivePod};
use agentwrit_protocol::system::SystemClock;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use crate::broker::Fault;
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

/// The broker holds the pod from now on: it has a session.
fn held(world: &World, uid: &str, name: &str) {
    world.broker.memory().pods.push(live(world, uid, name));
}

fn live(world: &World, uid: &str, name: &str) -> LivePod {
    LivePod {
        uid: uid.into(),
        namespace: world.namespace.clone(),
        name: name.into(),
    }
}

/// The controller has looked at the broker since now, twice: what it saw in the first look has had its effect.
async fn looked_twice(world: &World) {
    let before = world.broker.memory().looks;
    wait("two looks at the broker", || async {
        (world.broker.memory().looks >= before + 2).then_some(())
    })
    .await;
}

async fn unlabel(world: &World, name: &str) {
    let unlabel = Patch::Merge(json!({"metadata": {"labels": {"agentwrit.io/injected": null}}}));
    let unlabelled = pods(world)
        .patch(name, &PatchParams::default(), &unlabel)
        .await
        .unwrap();
    assert!(!unlabelled.labels().contains_key("agentwrit.io/injected"));
}

/// A pod that carries the sidecar but was not injected here: restored from a backup, or a copy for debugging.
async fn create_without_label(world: &World, name: &str) -> String {
    let mut pod = named(name);
    pod["metadata"].as_object_mut().unwrap().remove("labels");
    pod["spec"]["initContainers"] = json!([{
        "name": "agentwrit-sidecar", "image": "agentwrit-sidecar", "restartPolicy": "Always",
    }]);
    create_pod(world, pod).await.uid().unwrap()
}

#[tokio::test]
async fn a_pod_whose_label_was_taken_off_ends_within_two_seconds() {
    let world = World::new("pods").await;
    let uid = create_pod(&world, named("shop")).await.uid().unwrap();
    held(&world, &uid, "shop");
    unlabel(&world, "shop").await;
    looked_twice(&world).await;
    assert!(world.broker.end_of(&uid).is_none(), "it only lost its label");

    pods(&world).delete("shop", &at_once()).await.unwrap();
    let end = wait_for("the end", Duration::from_secs(2), || async {
        world.broker.end_of(&uid)
    })
    .await;
    assert_eq!((end.reason.as_str(), end.name.as_str()), ("deleted", "shop"));
    world.done().await;
}

#[tokio::test]
async fn a_pod_that_never_had_the_label_ends_within_two_seconds() {
    let world = World::new("pods").await;
    let deleted = create_without_label(&world, "restored").await;
    let finished = create_without_label(&world, "copied").await;
    held(&world, &deleted, "restored");
    held(&world, &finished, "copied");
    looked_twice(&world).await;

    pods(&world).delete("restored", &at_once()).await.unwrap();
    set_phase(&world, "copied", "Failed").await;
    for (uid, reason) in [(&deleted, "deleted"), (&finished, "failed")] {
        let end = wait_for("the end", Duration::from_secs(2), || async { world.broker.end_of(uid) }).await;
        assert_eq!(end.reason, reason);
    }
    pods(&world).delete("copied", &at_once()).await.unwrap();
    world.done().await;
}

/// Nobody knew that pod while it lived: the next look at the broker, at most ten seconds later, finds it.
#[tokio::test]
async fn a_pod_that_ends_between_two_looks_is_found_by_the_next() {
    let world = World::new("pods").await;
    let uid = create_without_label(&world, "brief").await;
    pods(&world).delete("brief", &at_once()).await.unwrap();
    held(&world, &uid, "brief");
    let end = wait_for("the end", Duration::from_secs(15), || async {
        world.broker.end_of(&uid)
    })
    .await;
    assert_eq!(end.reason, "deleted");
    world.done().await;
}

#[tokio::test]
async fn eleven_unlabelled_running_pods_change_nothing() {
    let world = World::new("pods").await;
    let other = World::new("pods").await;
    for number in 0..11 {
        let name = format!("runs-{number}");
        let uid = create_without_label(&world, &name).await;
        held(&world, &uid, &name);
    }
    // Another store makes the comparison list the pods instead of asking the watch.
    other.broker.memory().epoch.push('#');
    looked_twice(&world).await;
    let gone = format!("gone-{}", other.namespace);
    held(&other, &gone, "vanished");
    let end = wait_for("the other's end", Duration::from_secs(15), || async {
        other.broker.end_of(&gone)
    })
    .await;
    assert_eq!(end.reason, "deleted");
    let memory = world.broker.memory().ended.clone();
    assert!(
        memory.iter().all(|(_, end)| end.namespace != world.namespace),
        "{memory:?}"
    );
    for number in 0..11 {
        pods(&world)
            .delete(&format!("runs-{number}"), &at_once())
            .await
            .unwrap();
    }
    world.done().await;
    other.done().await;
}

/// Most of the broker's pods vanish, all of one namespace: it is told, others' ends don't wait, and a minute later
/// these end too, without anybody's help.
#[tokio::test]
async fn the_safety_stop_is_one_namespaces_and_ends_by_itself() {
    let many = World::new("pods").await;
    let other = World::new("pods").await;
    let uid = |number| format!("many-{number}-{}", many.namespace);
    // At once, so that one look sees them all.
    let vanished = (0..60).map(|number| live(&many, &uid(number), &format!("vanished-{number}")));
    many.broker.memory().pods.extend(vanished);
    let events: Api<Event> = Api::namespaced(many.client.clone(), &many.release);
    let told = wait("an Event SafetyStop", || async {
        let all = events.list(&ListParams::default()).await.unwrap();
        all.items
            .into_iter()
            .find(|event| event.reason.as_deref() == Some("SafetyStop"))
    })
    .await;
    let note = told.note.unwrap();
    assert!(note.contains("the end of 60 waits"), "{note}");

    let gone = format!("gone-{}", other.namespace);
    held(&other, &gone, "vanished");
    wait_for("the other's end", Duration::from_secs(15), || async {
        other.broker.end_of(&gone)
    })
    .await;
    assert!(
        many.broker.end_of(&uid(0)).is_none(),
        "it waits for the second comparison"
    );

    wait_for("the ends", Duration::from_secs(90), || async {
        (0..60)
            .all(|number| many.broker.end_of(&uid(number)).is_some())
            .then_some(())
    })
    .await;
    many.done().await;
    other.done().await;
}

#[tokio::test]
async fn an_end_that_the_broker_cant_take_is_reported_later() {
    let world = World::new("pods").await;
    let uid = create_without_label(&world, "shop").await;
    held(&world, &uid, "shop");
    looked_twice(&world).await;
    world.broker.fail(&world.namespace, Some(Fault::Away));
    pods(&world).delete("shop", &at_once()).await.unwrap();
    // Longer than the attempts for one hint.
    looked_twice(&world).await;
    assert!(world.broker.end_of(&uid).is_none());
    world.broker.fail(&world.namespace, None);
    wait("the end", || async { world.broker.end_of(&uid) }).await;
    world.done().await;
}

#[tokio::test]
async fn a_pod_that_ended_unseen_is_found_by_the_full_comparison() {
    let world = World::new("pods").await;
    let running = create_pod(&world, named("shop")).await.uid().unwrap();
    let gone = format!("gone-{}", world.namespace);
    held(&world, &running, "shop");
    held(&world, &gone, "vanished");
    // Another store is one of the moments when the cluster's pods are listed.
    world.broker.memory().epoch.push('#');
    let end = wait("the end", || async { world.broker.end_of(&gone) }).await;
    assert_eq!((end.reason.as_str(), end.name.as_str()), ("deleted", "vanished"));
    assert!(world.broker.end_of(&running).is_none());
    pods(&world).delete("shop", &at_once()).await.unwrap();
    world.done().await;
}

#[tokio::test]
async fn a_refused_pods_event_names_policy_and_service_account() {
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
            pod_uid: uid.as_str().into(),
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

/// The kubelet's part: the sidecar has been running since long before.
async fn sidecar_runs(world: &World, name: &str) {
    let sidecar = json!({
        "name": "agentwrit-sidecar", "image": "i", "imageID": "i", "ready": false, "started": false, "restartCount": 0,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    });
    let patch = Patch::Merge(json!({"status": {"phase": "Pending", "initContainerStatuses": [sidecar]}}));
    pods(world)
        .patch_status(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_pod_that_the_broker_never_heard_of_gets_one_event() {
    let world = World::new("pods").await;
    let mut uids = Vec::new();
    for name in ["silent", "heard", "waits"] {
        // On no node: those of nodes that don't exist are collected within the minute.
        let mut pod = pod_json();
        pod["metadata"]["name"] = json!(name);
        uids.push(create_pod(&world, pod).await.uid().unwrap());
    }
    held(&world, &uids[1], "heard");
    sidecar_runs(&world, "silent").await;
    sidecar_runs(&world, "heard").await;
    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.namespace);
    let told = || async {
        let all = events.list(&ListParams::default()).await.unwrap();
        let is_it = |event: &Event| event.reason.as_deref() == Some("NoLaunchRequest");
        all.items.into_iter().filter(is_it).collect::<Vec<_>>()
    };
    // A new controller doesn't know whether the broker was away: 100 s.
    let limit = Duration::from_secs(130);
    let first = wait_for("the Event", limit, || async { told().await.into_iter().next() }).await;
    let note = first.note.unwrap();
    for part in ["NetworkPolicy", "DNS", "logs silent -c agentwrit-sidecar"] {
        assert!(note.contains(part), "{note}");
    }
    assert_eq!(first.regarding.unwrap().uid.as_ref(), Some(&uids[0]));
    looked_twice(&world).await;
    let all = told().await;
    assert!(
        all.len() == 1 && all[0].series.is_none(),
        "once, and of that pod alone: {all:?}"
    );
    for name in ["silent", "heard", "waits"] {
        pods(&world).delete(name, &at_once()).await.unwrap();
    }
    world.done().await;
}
