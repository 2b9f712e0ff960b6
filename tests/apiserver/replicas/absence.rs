//! What happened while no controller ran is made up for at the next start.

use agentwrit_crds::LaunchToken;
use agentwrit_protocol::k8s::{LivePod, PolicyKind};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::program::Replica;
use super::{LEASE, TAKEN_OVER, arrives, change, world};
use crate::objects::{app_becomes, create_app, create_pod, create_token, pod_json, pods, token_becomes, token_json};
use crate::world::{World, wait};

async fn create_named(world: &World, name: &str) -> LaunchToken {
    let mut token = token_json(&["read:orders:2"]);
    token["metadata"]["name"] = json!(name);
    let token = serde_json::from_value(token).unwrap();
    let tokens = world.launch_tokens();
    tokens.create(&PostParams::default(), &token).await.unwrap()
}

/// Waits until the broker holds these policies of the namespace and no other.
async fn holds(world: &World, policies: &[&str]) {
    let what = format!("the broker holds {policies:?}");
    wait(&what, || async {
        (world.broker.policies_of(&world.namespace) == policies).then_some(())
    })
    .await;
}

/// Lets the objects go, and then the namespaces, for which nobody waits.
pub(super) async fn done(world: &World) {
    let (parameters, all) = (DeleteParams::default(), ListParams::default());
    let tokens = world.launch_tokens();
    tokens.delete_collection(&parameters, &all).await.unwrap();
    world.apps().delete_collection(&parameters, &all).await.unwrap();
    wait("the objects are gone", || async {
        let (tokens, apps) = (tokens.list(&all).await.unwrap(), world.apps().list(&all).await.unwrap());
        (tokens.items.is_empty() && apps.items.is_empty()).then_some(())
    })
    .await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    for name in [&world.namespace, &world.release] {
        namespaces.delete(name, &parameters).await.unwrap();
    }
}

#[tokio::test]
async fn a_controller_starts_on_what_was_there_before_it() {
    let world = world().await;
    // An installation of before, whose objects were taken away from it as after an uninstall.
    let old = create_app(&world, &["read:orders:*"]).await;
    create_token(&world, &["read:orders:1"]).await;
    create_named(&world, "gone").await;
    let before = Replica::start(&world, "before", LEASE).await;
    holds(&world, &["app/orders", "token/gone", "token/reader"]).await;
    token_becomes(&world, "Synced").await;
    before.kill().await;
    let (parameters, free) = (PatchParams::default(), json!({"metadata": {"finalizers": null}}));
    let (delete, all) = (DeleteParams::default(), ListParams::default());
    for name in ["gone", "reader"] {
        let patch = Patch::Merge(&free);
        world.launch_tokens().patch(name, &parameters, &patch).await.unwrap();
    }
    let patch = Patch::Merge(&free);
    world.apps().patch("orders", &parameters, &patch).await.unwrap();
    world.launch_tokens().delete_collection(&delete, &all).await.unwrap();
    world.apps().delete("orders", &delete).await.unwrap();

    // New ones, which no controller has seen; one doesn't stay.
    let new = create_app(&world, &["read:orders:*"]).await;
    create_token(&world, &["read:orders:1"]).await;
    create_named(&world, "later").await;
    create_named(&world, "brief").await;
    world.launch_tokens().delete("brief", &delete).await.unwrap();
    let brief = world.launch_tokens().get_opt("brief").await.unwrap();
    assert!(brief.is_none(), "nothing held it");

    world.broker.memory().away = true;
    let after = Replica::start(&world, "after", LEASE).await;
    app_becomes(&world, "BrokerUnavailable").await;
    token_becomes(&world, "BrokerUnavailable").await;
    world.broker.memory().away = false;
    app_becomes(&world, "Synced").await;
    token_becomes(&world, "Synced").await;
    holds(&world, &["app/orders", "token/later", "token/reader"]).await;
    let held = world.broker.app(&world.namespace, "orders").unwrap();
    assert_ne!(old.uid(), new.uid());
    assert_eq!(Some(held.uid.as_str()), new.uid().as_deref());
    done(&world).await;
    after.kill().await;
}

/// A pod that the broker holds; its UID.
async fn live_pod(world: &World, name: &str) -> String {
    let mut pod = pod_json();
    pod["metadata"]["name"] = json!(name);
    let uid = create_pod(world, pod).await.uid().unwrap();
    world.broker.memory().pods.push(LivePod {
        uid: uid.as_str().into(),
        namespace: world.namespace.clone(),
        name: name.into(),
    });
    uid
}

#[tokio::test]
async fn after_an_hour_away_everything_is_brought_in_line() {
    let world = world().await;
    create_app(&world, &["read:orders:*", "write:orders:*"]).await;
    create_token(&world, &["read:orders:1"]).await;
    let dropped = create_named(&world, "dropped").await.uid().unwrap();
    let first = Replica::start(&world, "first", LEASE).await;
    arrives(&world, "reader", 1, TAKEN_OVER).await;
    arrives(&world, "dropped", 1, TAKEN_OVER).await;
    let (mut stay, mut end) = (Vec::new(), Vec::new());
    for number in 0..3 {
        stay.push(live_pod(&world, &format!("stays-{number}")).await);
    }
    for number in 0..14 {
        end.push(live_pod(&world, &format!("ends-{number}")).await);
    }
    first.kill().await;

    let generation = change(&world, "reader", 600).await;
    let narrower = Patch::Merge(json!({"spec": {"scopes": ["read:orders:*"]}}));
    world
        .apps()
        .patch("orders", &PatchParams::default(), &narrower)
        .await
        .unwrap();
    world
        .launch_tokens()
        .delete("dropped", &DeleteParams::default())
        .await
        .unwrap();
    for number in 0..14 {
        let at_once = DeleteParams::default().grace_period(0);
        pods(&world).delete(&format!("ends-{number}"), &at_once).await.unwrap();
    }

    let mut second = Replica::with_own_time(&world, "second", &[]).await;
    second.ahead(3600).await;
    arrives(&world, "reader", generation, TAKEN_OVER).await;
    wait("the narrower ceiling is enforced", || async {
        let held = world.broker.app(&world.namespace, "orders")?;
        (held.spec.scopes == ["read:orders:*"]).then_some(())
    })
    .await;
    wait("the deleted LaunchToken is gone", || async {
        world
            .launch_tokens()
            .get_opt("dropped")
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    let removals = world.broker.removals_of(&world.namespace);
    assert_eq!(removals.len(), 1, "{removals:?}");
    assert!(removals[0].kind == PolicyKind::LaunchToken && removals[0].uid == dropped && removals[0].revoke);

    // Over half of the pods are gone: the second comparison decides, a minute after the first.
    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.release);
    let told = wait("an Event SafetyStop", || async {
        let all = events.list(&ListParams::default()).await.unwrap();
        all.items
            .into_iter()
            .find(|event| event.reason.as_deref() == Some("SafetyStop"))
    })
    .await;
    let note = told.note.unwrap();
    assert!(
        note.contains("14 of the broker's 17 pods") && note.contains("the end of 14 waits"),
        "{note}"
    );
    assert!(end.iter().all(|uid| world.broker.end_of(uid).is_none()), "not yet");
    second.ahead(60).await;
    wait("the ends", || async {
        end.iter().all(|uid| world.broker.end_of(uid).is_some()).then_some(())
    })
    .await;
    assert!(stay.iter().all(|uid| world.broker.end_of(uid).is_none()), "they run");
    done(&world).await;
    second.kill().await;
}
