//! No Event is repeated while nothing changes for the better or worse, however often an object is looked at.

use std::collections::BTreeMap;

use agentwrit_crds::LaunchToken;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::program::Replica;
use super::{LEASE, TAKEN_OVER, arrives, change, world};
use crate::objects::{app_json, create_app, create_token, token_json};
use crate::world::{World, wait};

/// How often each object is touched.
const TOUCHES: usize = 20;

/// A LaunchToken with more in its spec.
async fn create_like(world: &World, name: &str, more: &Value) {
    let mut token = token_json(&["read:orders:1"]);
    json_patch::merge(&mut token, &json!({"metadata": {"name": name}, "spec": more}));
    let token: LaunchToken = serde_json::from_value(token).unwrap();
    world
        .launch_tokens()
        .create(&PostParams::default(), &token)
        .await
        .unwrap();
}

/// An object in each state that has an Event, and two that are well.
async fn all_states(world: &World) {
    create_app(world, &["read:orders:*"]).await;
    create_token(world, &["read:orders:1"]).await;
    create_like(world, "homeless", &json!({"appRef": {"name": "nobody"}})).await;
    create_like(world, "greedy", &json!({"allowedScopes": ["write:orders:1"]})).await;
    create_like(world, "resting", &json!({"suspend": true})).await;
    let long: Vec<String> = (0..64).map(|number| format!("read:orders:{number:0>200}")).collect();
    create_like(world, "long", &json!({"allowedScopes": long})).await;
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
    let secret = serde_json::from_value(json!({"metadata": {"name": "taken"}})).unwrap();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    let mut app = app_json(&["read:orders:*"]);
    json_patch::merge(
        &mut app,
        &json!({"metadata": {"name": "keyed"}, "spec": {"clientCredentials": {"secretName": "taken"}}}),
    );
    let app = serde_json::from_value(app).unwrap();
    world.apps().create(&PostParams::default(), &app).await.unwrap();
}

/// How often each Event on an AgentApp or LaunchToken was told: by kind, name and reason.
async fn told(world: &World) -> BTreeMap<String, i32> {
    let api: Api<Event> = Api::namespaced(world.client.clone(), &world.namespace);
    let mut count = BTreeMap::new();
    for event in api.list(&ListParams::default()).await.unwrap().items {
        let regarding = event.regarding.unwrap_or_default();
        let kind = regarding.kind.unwrap_or_default();
        if kind == "AgentApp" || kind == "LaunchToken" {
            let name = regarding.name.unwrap_or_default();
            let key = format!("{kind} {name} {}", event.reason.unwrap_or_default());
            *count.entry(key).or_default() += event.series.map_or(1, |series| series.count);
        }
    }
    count
}

/// Touches each object so often, and waits each time until `leader` has looked at all of them since.
async fn touch_all(world: &World, leader: &Replica, times: usize) {
    let parameters = PatchParams::default();
    let looks = |kind: &str| format!("reconciliations_total{{kind=\"{kind}\",result=\"ok\"}}");
    for touch in 0..times {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"example.org/touched": touch.to_string()}}}));
        let before = [
            leader.metric(&looks("AgentApp")).await,
            leader.metric(&looks("LaunchToken")).await,
        ];
        for name in ["orders", "keyed"] {
            world.apps().patch(name, &parameters, &patch).await.unwrap();
        }
        for name in ["reader", "homeless", "greedy", "resting", "long"] {
            world.launch_tokens().patch(name, &parameters, &patch).await.unwrap();
        }
        wait("all were looked at", || async {
            let now = [
                leader.metric(&looks("AgentApp")).await,
                leader.metric(&looks("LaunchToken")).await,
            ];
            (now[0] >= before[0] + 2.0 && now[1] >= before[1] + 5.0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn no_event_is_repeated_however_often_objects_are_seen() {
    let world = world().await;
    all_states(&world).await;
    let namespaces = format!("--client-credentials-namespaces={}", world.namespace);
    let flags = ["--client-credentials=on", &namespaces];
    let first = Replica::start_with(&world, "first", LEASE, &flags).await;
    let wanted = BTreeMap::from(
        [
            "AgentApp keyed SecretNotOwned",
            "LaunchToken greedy ScopeExceedsCeiling",
            "LaunchToken homeless AppNotFound",
            "LaunchToken long TokenTooLong",
            "LaunchToken resting Suspended",
        ]
        .map(|event| (event.to_owned(), 1)),
    );
    wait("each state is told", || async {
        (told(&world).await == wanted).then_some(())
    })
    .await;
    arrives(&world, "reader", 1, TAKEN_OVER).await;
    touch_all(&world, &first, TOUCHES).await;
    assert_eq!(told(&world).await, wanted, "touched");

    {
        let mut memory = world.broker.memory();
        memory.policies.clear();
        memory.epoch.push('+');
    }
    wait("all policies are written again", || async {
        (world.broker.policies_of(&world.namespace).len() == 7).then_some(())
    })
    .await;
    touch_all(&world, &first, TOUCHES).await;
    assert_eq!(told(&world).await, wanted, "the broker lost all");

    // The next leader finds the broker away, for less long than it takes to show.
    let second = Replica::start_with(&world, "second", LEASE, &flags).await;
    world.broker.memory().away = true;
    first.kill().await;
    second.leads(true).await;
    touch_all(&world, &second, 1).await;
    assert_eq!(told(&world).await, wanted, "another leads, without a broker");
    world.broker.memory().away = false;
    // A new spec that can't be sent would be told, and rightly.
    wait("the broker is known to answer", || async {
        (second.metric("broker_up").await > 0.5).then_some(())
    })
    .await;
    let generation = change(&world, "reader", 600).await;
    arrives(&world, "reader", generation, TAKEN_OVER).await;
    touch_all(&world, &second, TOUCHES).await;
    assert_eq!(told(&world).await, wanted, "another leads");
    super::absence::done(&world).await;
    second.kill().await;
}
