//! Delegation into other namespaces: what an AgentApp allows its agents, and when that ends.

use agentwrit_testkit::{Answer, Keys, World, claims};
use serde_json::{Value, json};

/// The AgentApp `orders` of a namespace, whose agents may delegate into these.
async fn allow(world: &World, namespace: &str, generation: i64, into: &[&str]) {
    let mut app = world.app(generation, "ready", &["read:orders:*", "write:orders:*"]);
    app["uid"] = json!(format!("{namespace}-app"));
    if !into.is_empty() {
        app["spec"]["delegation_namespaces"] = json!(into);
    }
    let path = format!("/v1/k8s/policies/apps/{namespace}/orders");
    world.as_controller("PUT", &path, &app).await.ok();
}

/// A world with an app and a LaunchToken in each of these namespaces, none of which may delegate into another.
async fn world(namespaces: &[&str]) -> World {
    let world = World::new().await;
    for namespace in namespaces {
        allow(&world, namespace, 1, &[]).await;
        let mut launch = world.launch_token(1, "ready", &["read:orders:*"]);
        launch["uid"] = json!(format!("{namespace}-token"));
        let path = format!("/v1/k8s/policies/launch-tokens/{namespace}/reader");
        world.as_controller("PUT", &path, &launch).await.ok();
    }
    world
}

async fn agent(world: &World, namespace: &str, uid: &str, seed: u8) -> String {
    world.agent(&world.pod_in(namespace, uid), &Keys::new(seed)).await
}

async fn delegate(world: &World, from: &str, to: &str) -> Answer {
    let body = json!({"delegate_to": claims(to)["sub"], "scope": ["read:orders:*"], "ttl": 200});
    world.call("POST", "/v1/delegate", from, &body).await
}

fn token(answer: Answer) -> String {
    answer.ok()["access_token"].as_str().unwrap().to_owned()
}

async fn refused(world: &World, from: &str, to: &str, why: &str) {
    let answer = delegate(world, from, to).await;
    assert_eq!(answer.refusal(), (404, "not_found"), "{why}");
    assert_eq!(answer.body["detail"], "delegate agent not found", "{why}");
    assert_eq!(
        world.last_kind("delegation_attenuation_violation").await,
        "delegate_unknown",
        "{why}"
    );
}

#[tokio::test]
async fn agents_delegate_into_the_namespaces_of_their_apps_list() {
    let world = world(&["shop", "bank", "mill"]).await;
    allow(&world, "shop", 2, &["bank"]).await;
    let from = agent(&world, "shop", "pod-1", 1).await;
    let bank = agent(&world, "bank", "pod-2", 2).await;
    let mill = agent(&world, "mill", "pod-3", 3).await;
    let child = token(delegate(&world, &from, &bank).await);
    assert!(world.stands(&child).await);
    token(world.renew(&child).await);
    refused(&world, &from, &mill, "it isn't on the list").await;
    refused(&world, &bank, &from, "the list is of one direction").await;
    allow(&world, "bank", 2, &["shop"]).await;
    token(delegate(&world, &bank, &from).await);
}

#[tokio::test]
async fn what_was_passed_on_needs_the_lists_of_both_apps() {
    let world = world(&["shop", "bank", "mill"]).await;
    let from = agent(&world, "shop", "pod-1", 1).await;
    let bank = agent(&world, "bank", "pod-2", 2).await;
    let other = agent(&world, "bank", "pod-3", 3).await;
    let mill = agent(&world, "mill", "pod-4", 4).await;
    allow(&world, "shop", 2, &["bank"]).await;
    allow(&world, "bank", 2, &["mill"]).await;
    let held = token(delegate(&world, &from, &bank).await);
    token(delegate(&world, &held, &other).await);
    refused(&world, &held, &mill, "the shop doesn't allow it").await;
    refused(&world, &held, &from, "the bank doesn't allow it").await;
    allow(&world, "shop", 3, &["bank", "mill"]).await;
    token(delegate(&world, &held, &mill).await);
    allow(&world, "bank", 3, &["mill", "shop"]).await;
    token(delegate(&world, &held, &from).await);
}

#[tokio::test]
async fn a_list_changes_no_session_and_no_other_delegation() {
    let world = world(&["shop", "bank", "mill"]).await;
    allow(&world, "shop", 2, &["bank", "mill"]).await;
    let from = agent(&world, "shop", "pod-1", 1).await;
    let near = agent(&world, "shop", "pod-2", 2).await;
    let bank = agent(&world, "bank", "pod-3", 3).await;
    let mill = agent(&world, "mill", "pod-4", 4).await;
    let inside = token(delegate(&world, &from, &near).await);
    let to_mill = token(delegate(&world, &from, &mill).await);
    let to_bank = token(delegate(&world, &from, &bank).await);
    let deeper = token(delegate(&world, &inside, &bank).await);
    allow(&world, "shop", 3, &["mill"]).await;
    for (token, stands) in [
        (&from, true),
        (&inside, true),
        (&to_mill, true),
        (&bank, true),
        (&to_bank, false),
        (&deeper, false),
    ] {
        assert_eq!(world.stands(token).await, stands);
    }
    assert_eq!(world.renew(&to_bank).await.refusal(), (403, "policy_changed"));
    let told = world.events("event_type=policy_applied").await;
    let ended: Vec<&Value> = told
        .iter()
        .filter(|event| event["detail"].as_str().unwrap().contains("session ended"))
        .collect();
    assert_eq!(ended.len(), 2);
    for event in ended {
        assert_eq!(
            (&event["pod_uid"], &event["policy_uid"]),
            (&json!("pod-1"), &json!("shop-token"))
        );
    }
    world.renew(&from).await.ok();
    refused(&world, &inside, &bank, "no longer").await;
}

#[tokio::test]
async fn what_a_holder_passed_on_ends_with_its_apps_list() {
    let world = world(&["shop", "bank", "mill"]).await;
    allow(&world, "shop", 2, &["bank", "mill"]).await;
    allow(&world, "bank", 2, &["mill"]).await;
    let from = agent(&world, "shop", "pod-1", 1).await;
    let bank = agent(&world, "bank", "pod-2", 2).await;
    let mill = agent(&world, "mill", "pod-3", 3).await;
    let held = token(delegate(&world, &from, &bank).await);
    let passed_on = token(delegate(&world, &held, &mill).await);
    let direct = token(delegate(&world, &from, &mill).await);
    allow(&world, "bank", 3, &[]).await;
    for (token, stands) in [(&held, true), (&direct, true), (&passed_on, false)] {
        assert_eq!(world.stands(token).await, stands);
    }
}

#[tokio::test]
async fn an_app_that_is_made_anew_without_a_list_withdraws_it() {
    let world = world(&["shop", "bank"]).await;
    allow(&world, "shop", 2, &["bank"]).await;
    let from = agent(&world, "shop", "pod-1", 1).await;
    let bank = agent(&world, "bank", "pod-2", 2).await;
    let child = token(delegate(&world, &from, &bank).await);
    let mut anew = world.app(1, "ready", &["read:orders:*", "write:orders:*"]);
    anew["uid"] = json!("another-app");
    world.put_app(&anew).await.ok();
    assert!(!world.stands(&child).await);
    refused(&world, &from, &bank, "the new app lists nothing").await;
}

#[tokio::test]
async fn namespaces_of_another_form_are_refused() {
    let world = World::new().await.with_policies().await;
    for wrong in [vec!["Bank"], vec![""], vec!["a.b"], vec!["bank"; 65]] {
        let mut app = world.app(2, "ready", &["read:orders:*"]);
        app["spec"]["delegation_namespaces"] = json!(wrong);
        let answer = world.put_app(&app).await;
        assert_eq!(answer.refusal(), (400, "invalid_request"), "{wrong:?}");
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.starts_with("spec.delegation_namespaces"), "{detail}");
    }
}
