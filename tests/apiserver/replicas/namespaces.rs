//! Namespaces that are deleted while no controller runs.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::program::Replica;
use super::{LEASE, world};
use crate::objects::{app_becomes, app_condition, app_json, create_token, token_becomes, token_condition};
use crate::world::{World, wait, wait_for};

/// The namespace controller looks again after 8 s where finalizers remain, and the other tests' namespaces come first.
const LIMIT: Duration = Duration::from_mins(3);

/// Both objects, Ready; nobody leads any more.
async fn left_alone(world: &World, flags: &[&str]) {
    let mut app = app_json(&["read:orders:*"]);
    app["spec"]["clientCredentials"] = json!({"secretName": "orders-client"});
    let app = serde_json::from_value(app).unwrap();
    world.apps().create(&PostParams::default(), &app).await.unwrap();
    create_token(world, &["read:orders:1"]).await;
    let first = Replica::start_with(world, "first", LEASE, flags).await;
    app_becomes(world, "Synced").await;
    token_becomes(world, "Synced").await;
    first.kill().await;
}

/// Deletes the namespace; its objects are being deleted then.
async fn delete(world: &World) -> Api<Namespace> {
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let parameters = DeleteParams::default();
    namespaces.delete(&world.namespace, &parameters).await.unwrap();
    wait_for("both objects are being deleted", LIMIT, || async {
        let app = world.apps().get("orders").await.unwrap().metadata;
        let token = world.launch_tokens().get("reader").await.unwrap().metadata;
        (app.deletion_timestamp.is_some() && token.deletion_timestamp.is_some()).then_some(())
    })
    .await;
    namespaces
}

async fn is_gone(world: &World, namespaces: &Api<Namespace>) {
    wait_for("the namespace is gone", LIMIT, || async {
        namespaces
            .get_opt(&world.namespace)
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    wait("the broker holds nothing of it", || async {
        world.broker.policies_of(&world.namespace).is_empty().then_some(())
    })
    .await;
}

fn clients_in(world: &World) -> [String; 2] {
    let namespaces = format!("--client-credentials-namespaces={}", world.namespace);
    ["--client-credentials=on".to_owned(), namespaces]
}

#[tokio::test]
async fn a_controller_that_comes_later_lets_the_namespace_go() {
    let world = world().await;
    let flags = clients_in(&world);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    left_alone(&world, &flags).await;
    let namespaces = delete(&world).await;
    let second = Replica::start_with(&world, "second", LEASE, &flags).await;
    is_gone(&world, &namespaces).await;
    let removals = world.broker.removals_of(&world.namespace);
    assert_eq!(removals.len(), 2, "each once: {removals:?}");
    second.kill().await;
}

#[tokio::test]
async fn without_a_broker_an_ending_namespace_says_the_way_out() {
    let world = world().await;
    let flags = clients_in(&world);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    left_alone(&world, &flags).await;
    world.broker.memory().away = true;
    let namespaces = delete(&world).await;
    let mut second = Replica::with_own_time(&world, "second", &flags).await;
    for message in [
        app_becomes(&world, "Deleting").await.message,
        token_becomes(&world, "Deleting").await.message,
    ] {
        assert!(message.contains("the broker can't be reached"), "{message}");
        assert!(!message.contains("release-finalizer"), "{message}");
    }
    second.ahead(600).await;
    wait("both say the way out", || async {
        let (app, token) = (app_condition(&world).await?, token_condition(&world).await?);
        let says = |message: &str| message.contains("agentwrit.io/release-finalizer: \"true\"");
        (says(&app.message) && says(&token.message)).then_some(())
    })
    .await;

    let release = Patch::Merge(json!({"metadata": {"annotations": {"agentwrit.io/release-finalizer": "true"}}}));
    let parameters = PatchParams::default();
    let released = world
        .launch_tokens()
        .patch("reader", &parameters, &release)
        .await
        .unwrap();
    assert!(released.metadata.deletion_timestamp.is_some());
    wait("the LaunchToken is gone", || async {
        world
            .launch_tokens()
            .get_opt("reader")
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    assert_eq!(
        world.broker.policies_of(&world.namespace),
        ["app/orders", "token/reader"]
    );
    assert_eq!(world.apps().get("orders").await.unwrap().name_any(), "orders");

    world.broker.memory().away = false;
    is_gone(&world, &namespaces).await;
    let own = format!("/namespaces/{}/", world.namespace);
    let written: Vec<String> = second
        .written()
        .into_iter()
        .filter(|line| line.contains(&own))
        .collect();
    assert!(
        written.iter().all(|line| line.starts_with("PATCH ")),
        "nothing is made there: {written:?}"
    );
    // Of each object: two statuses, and the finalizer.
    assert!(written.len() <= 6, "{written:?}");
    second.kill().await;
}
