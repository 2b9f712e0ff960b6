//! A namespace goes whichever of its objects goes first, and with the broker there or away. Without a controller:
//! `replicas/namespaces.rs`.

use std::time::Duration;

use agentwrit_protocol::k8s::LivePod;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::task::JoinSet;

use crate::broker::Fault;
use crate::objects::{
    app_becomes, app_condition, app_json, create_pod, create_token, pod_json, pods, token_becomes, token_condition,
};
use crate::world::{World, wait, wait_for};

/// The namespace controller looks again after 8 s where finalizers remain, and the other tests' namespaces come first.
const LIMIT: Duration = Duration::from_mins(3);

#[derive(Debug, Clone, Copy)]
enum First {
    Nothing,
    App,
    LaunchToken,
    Secret,
    PodsAndAccounts,
}

const ALL: [First; 5] = [
    First::Nothing,
    First::App,
    First::LaunchToken,
    First::Secret,
    First::PodsAndAccounts,
];

/// A namespace with one of each, and the UID of its pod.
async fn filled(number: usize) -> (World, String) {
    let world = World::with_clients(number).await;
    let mut app = app_json(&["read:orders:*"]);
    app["spec"]["clientCredentials"] = json!({"secretName": "orders-client"});
    let app = serde_json::from_value(app).unwrap();
    world.apps().create(&PostParams::default(), &app).await.unwrap();
    create_token(&world, &["read:orders:42"]).await;
    app_becomes(&world, "Synced").await;
    token_becomes(&world, "Synced").await;
    let uid = create_pod(&world, pod_json()).await.uid().unwrap();
    world.broker.memory().pods.push(LivePod {
        uid: uid.as_str().into(),
        namespace: world.namespace.clone(),
        name: "shop".into(),
    });
    (world, uid)
}

async fn delete(world: &World, first: First) {
    let parameters = DeleteParams::default();
    match first {
        First::Nothing => {}
        First::App => drop(world.apps().delete("orders", &parameters).await.unwrap()),
        First::LaunchToken => drop(world.launch_tokens().delete("reader", &parameters).await.unwrap()),
        First::Secret => {
            let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
            secrets.delete("orders-client", &parameters).await.unwrap();
        }
        First::PodsAndAccounts => {
            let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.namespace);
            pods(world)
                .delete_collection(&parameters, &ListParams::default())
                .await
                .unwrap();
            accounts.delete("default", &parameters).await.unwrap();
        }
    }
}

/// Waits until the namespace says that our finalizer holds it, and each object says why.
async fn says_why_it_waits(world: &World) {
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let says_why = |condition: Option<Condition>| {
        let message = condition.filter(|condition| condition.reason == "Deleting")?.message;
        let is_why = message.contains("the broker can't be reached") && message.contains("as soon as it answers");
        // They all go.
        (is_why && !message.contains("still name")).then_some(())
    };
    wait_for("both say why they wait", LIMIT, || async {
        says_why(app_condition(world).await)?;
        says_why(token_condition(world).await)
    })
    .await;
    let what = format!("{} says what holds it", world.namespace);
    wait_for(&what, LIMIT, || async {
        let status = namespaces.get(&world.namespace).await.unwrap().status?;
        let says = |message: String| message.contains("agentwrit.io/broker-policy in 2 resource instances");
        let mut messages = status.conditions?.into_iter().filter_map(|condition| condition.message);
        messages.any(says).then_some(())
    })
    .await;
}

async fn a_namespace_goes(number: usize, first: First, broker_is_away: bool) {
    let (world, pod) = filled(number).await;
    if broker_is_away {
        world.broker.fail(&world.namespace, Some(Fault::Away));
    }
    delete(&world, first).await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let parameters = DeleteParams::default();
    namespaces.delete(&world.namespace, &parameters).await.unwrap();
    if broker_is_away {
        says_why_it_waits(&world).await;
        assert_eq!(world.broker.policies_of(&world.namespace).len(), 2);
        world.broker.fail(&world.namespace, None);
    }
    wait_for(&format!("{first:?} first: the namespace is gone"), LIMIT, || async {
        namespaces
            .get_opt(&world.namespace)
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    let held = world.broker.policies_of(&world.namespace);
    assert!(held.is_empty(), "{first:?} first: {held:?}");
    wait("the end of its pod", || async { world.broker.end_of(&pod) }).await;
}

/// Beside each other: most of the time they wait for the namespace controller.
async fn all<F: Future<Output = ()> + Send + 'static>(cases: impl Iterator<Item = F>) {
    cases.collect::<JoinSet<()>>().join_all().await;
}

#[tokio::test]
async fn a_namespace_goes_whichever_object_goes_first() {
    let cases = ALL.into_iter().zip(8..);
    all(cases.map(|(first, number)| a_namespace_goes(number, first, false))).await;
}

#[tokio::test]
async fn a_namespace_waits_for_the_broker_and_says_so() {
    let cases = ALL.into_iter().zip(13..);
    all(cases.map(|(first, number)| a_namespace_goes(number, first, true))).await;
}
