//! Deletion: the broker hears of it first, and an absent broker doesn't hold an object for ever.

use std::collections::BTreeSet;

use agentwrit_crds::LaunchToken;
use agentwrit_protocol::k8s::PolicyKind;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::broker::Fault;
use crate::objects::{app_becomes, create_app, create_token, event, token_becomes, token_json};
use crate::world::{World, wait};

async fn both(world: &World) {
    create_app(world, &["read:orders:*"]).await;
    create_token(world, &["read:orders:42"]).await;
    app_becomes(world, "Synced").await;
    token_becomes(world, "Synced").await;
}

async fn token_is_gone(world: &World) {
    wait("LaunchToken reader is gone", || async {
        world
            .launch_tokens()
            .get_opt("reader")
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
}

/// Deletes the LaunchToken while the broker is away; its condition then.
async fn deleted_while_away(world: &World) -> Condition {
    both(world).await;
    world.broker.fail(&world.namespace, Some(Fault::Away));
    let parameters = DeleteParams::default();
    world.launch_tokens().delete("reader", &parameters).await.unwrap();
    token_becomes(world, "Deleting").await
}

/// Whether the removal of this policy was asked for, and whether with revocation; the same every time.
fn removal(world: &World, kind: PolicyKind, uid: &str) -> Option<bool> {
    let removals = world.broker.removals_of(&world.namespace);
    let of_this: BTreeSet<bool> = removals
        .iter()
        .filter(|removal| removal.kind == kind && removal.uid == uid)
        .map(|removal| removal.revoke)
        .collect();
    assert!(of_this.len() <= 1, "{removals:?}");
    of_this.first().copied()
}

#[tokio::test]
async fn a_launch_tokens_deletion_policy_decides_about_live_agents() {
    let world = World::new("deletion").await;
    create_app(&world, &["read:orders:*"]).await;
    for (policy, revoke) in [("Revoke", true), ("Retain", false)] {
        let uid = create_token(&world, &["read:orders:42"]).await.uid().unwrap();
        let patch = Patch::Merge(json!({"spec": {"deletionPolicy": policy}}));
        world
            .launch_tokens()
            .patch("reader", &PatchParams::default(), &patch)
            .await
            .unwrap();
        token_becomes(&world, "Synced").await;
        world
            .launch_tokens()
            .delete("reader", &DeleteParams::default())
            .await
            .unwrap();
        token_is_gone(&world).await;
        assert_eq!(removal(&world, PolicyKind::LaunchToken, &uid), Some(revoke), "{policy}");
    }
    world.done().await;
}

#[tokio::test]
async fn deleting_an_app_revokes_and_withdraws_its_launch_tokens() {
    let world = World::new("deletion").await;
    both(&world).await;
    let uid = world.apps().get("orders").await.unwrap().uid().unwrap();
    world.apps().delete("orders", &DeleteParams::default()).await.unwrap();
    token_becomes(&world, "AppNotFound").await;
    assert_eq!(removal(&world, PolicyKind::App, &uid), Some(true));
    world.done().await;
}

/// Three more LaunchTokens of the app.
async fn three_more(world: &World) {
    for name in ["first", "second", "third"] {
        let mut token = token_json(&["read:orders:42"]);
        token["metadata"]["name"] = json!(name);
        let token = serde_json::from_value(token).unwrap();
        let tokens = world.launch_tokens();
        tokens.create(&PostParams::default(), &token).await.unwrap();
    }
}

/// Waits until so many LaunchTokens have this reason.
async fn tokens_become(world: &World, count: usize, reason: &str) {
    wait(&format!("{count} LaunchTokens become {reason}"), || async {
        let all = world.launch_tokens().list(&ListParams::default()).await.unwrap();
        let is_so = |token: &LaunchToken| {
            let conditions = token.status.iter().flat_map(|status| &status.conditions);
            let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
            ready.any(|condition| condition.reason == reason)
        };
        (all.items.iter().filter(|token| is_so(token)).count() == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn deleting_an_app_says_who_is_left_and_they_heal() {
    let world = World::new("deletion").await;
    both(&world).await;
    three_more(&world).await;
    tokens_become(&world, 4, "Synced").await;
    world.apps().delete("orders", &DeleteParams::default()).await.unwrap();
    let told = event(&world, "Deleting").await;
    let regarding = told.regarding.unwrap();
    assert_eq!(
        (regarding.kind.as_deref(), regarding.name.as_deref()),
        (Some("AgentApp"), Some("orders"))
    );
    assert_eq!(
        told.note.as_deref(),
        Some(
            "Its live agents were ended. 4 LaunchTokens still name this AgentApp: first, reader, second and 1 more. No pod is \
             launched with them until there is an AgentApp of this name again."
        )
    );
    tokens_become(&world, 4, "AppNotFound").await;
    assert!(
        world.apps().get_opt("orders").await.unwrap().is_none(),
        "it waits for none of them"
    );
    let note = event(&world, "AppNotFound").await.note.unwrap();
    assert!(note.contains("no AgentApp orders"), "{note}");

    create_app(&world, &["read:orders:*"]).await;
    app_becomes(&world, "Synced").await;
    tokens_become(&world, 4, "Synced").await;
    world.done().await;
}

#[tokio::test]
async fn an_app_that_waits_for_the_broker_says_who_is_left() {
    let world = World::new("deletion").await;
    both(&world).await;
    world.broker.fail(&world.namespace, Some(Fault::Away));
    world.apps().delete("orders", &DeleteParams::default()).await.unwrap();
    let message = app_becomes(&world, "Deleting").await.message;
    assert!(
        message.contains("the broker can't be reached")
            && message.contains("1 LaunchToken still names this AgentApp: reader."),
        "{message}"
    );
    let message = token_becomes(&world, "AppNotReady").await.message;
    assert!(message.contains("AgentApp orders is being deleted"), "{message}");
    world.broker.fail(&world.namespace, None);
    token_becomes(&world, "AppNotFound").await;
    world.done().await;
}

#[tokio::test]
async fn a_deletion_waits_for_the_broker_and_says_so() {
    let world = World::new("deletion").await;
    let condition = deleted_while_away(&world).await;
    assert!(condition.message.contains("broker"), "{}", condition.message);
    assert!(world.broker.launch_token(&world.namespace, "reader").is_some());

    world.broker.fail(&world.namespace, None);
    token_is_gone(&world).await;
    assert!(world.broker.launch_token(&world.namespace, "reader").is_none());
    world.done().await;
}

#[tokio::test]
async fn a_released_object_goes_at_once_and_its_policy_later() {
    let world = World::new("deletion").await;
    deleted_while_away(&world).await;
    let release = Patch::Merge(json!({"metadata": {"annotations": {"agentwrit.io/release-finalizer": "true"}}}));
    world
        .launch_tokens()
        .patch("reader", &PatchParams::default(), &release)
        .await
        .unwrap();
    token_is_gone(&world).await;
    let warning = event(&world, "FinalizerReleased").await;
    assert_eq!(warning.type_.as_deref(), Some("Warning"));
    assert!(
        world.broker.launch_token(&world.namespace, "reader").is_some(),
        "the broker hasn't heard of it"
    );

    world.broker.fail(&world.namespace, None);
    wait("the orphaned policy is removed", || async {
        world
            .broker
            .launch_token(&world.namespace, "reader")
            .is_none()
            .then_some(())
    })
    .await;
    world.done().await;
}
