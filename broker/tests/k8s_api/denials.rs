//! Refusals of pods beyond the rate: answered as before, counted in the trail, and no longer in the feed of Events; each pod by itself.

use agentwrit_testkit::{Keys, Pod, World, claims};
use serde_json::{Value, json};

#[tokio::test]
async fn a_pod_that_is_refused_in_a_loop_fills_neither_trail_nor_feed() {
    let world = World::with(&[("AA_DENIAL_AUDIT_RATE", "3")])
        .await
        .with_policies()
        .await;
    let (pod, other) = (world.pod("pod-1"), world.pod("pod-2"));
    let ask = async |pod: &Pod| {
        let body = json!({"policy": pod.policy, "public_key": Keys::new(1).public(), "scopes": ["other:orders:x"]});
        let refused = world.call("POST", "/v1/k8s/launch-tokens", &pod.bearer(), &body).await;
        assert_eq!(refused.refusal(), (403, "forbidden"));
    };
    for _ in 0..20 {
        ask(&pod).await;
    }
    ask(&other).await;
    assert_eq!(world.events("event_type=attestation_denied").await.len(), 4);
    let feed = world.as_controller("GET", "/v1/k8s/denials", &Value::Null).await.ok();
    assert_eq!(feed["denials"].as_array().unwrap().len(), 4);
    let launched = World::launched(world.launch(&pod, &Keys::new(1)).await);
    for _ in 0..20 {
        let refused = world.register_with(&launched, &Keys::new(2), &json!({})).await;
        assert_eq!(refused.refusal(), (403, "forbidden"));
    }
    assert_eq!(world.events("event_type=registration_denied").await.len(), 3);
    // The decision stays the same; the right key registers.
    world.register(&launched, &Keys::new(1)).await.ok();
}

#[tokio::test]
async fn no_delegate_hides_a_refusal_of_its_pod() {
    let world = World::with(&[("AA_DENIAL_AUDIT_RATE", "4")])
        .await
        .with_policies()
        .await;
    let pod = world.pod("pod-1");
    let token = world.agent(&pod, &Keys::new(1)).await;
    let id = claims(&token)["sub"].clone();
    let delegate = async |token: &str, scope: &str| {
        let body = json!({"delegate_to": id, "scope": [scope]});
        world.call("POST", "/v1/delegate", token, &body).await
    };
    let child = async |token: &str| {
        let answer = delegate(token, "read:orders:*").await.ok();
        answer["access_token"].as_str().unwrap().to_owned()
    };
    let (first, second) = (child(&token).await, child(&token).await);
    let below = child(&first).await;
    // Who was handed the first one floods, also by what descends from it.
    for (bearer, expected) in [(&below, 2), (&first, 2), (&second, 4), (&token, 8)] {
        for _ in 0..10 {
            assert_eq!(
                delegate(bearer, "other:orders:x").await.refusal(),
                (403, "scope_violation")
            );
        }
        let denied = world.events("event_type=delegation_attenuation_violation").await;
        assert_eq!(denied.len(), expected);
    }
    let body = json!({"policy": pod.policy, "public_key": Keys::new(1).public(), "scopes": ["other:orders:x"]});
    let refused = world.call("POST", "/v1/k8s/launch-tokens", &pod.bearer(), &body).await;
    assert_eq!(refused.refusal(), (403, "forbidden"));
    assert_eq!(world.events("event_type=attestation_denied").await.len(), 1);
    let feed = world.as_controller("GET", "/v1/k8s/denials", &Value::Null).await.ok();
    assert_eq!(feed["denials"].as_array().unwrap().len(), 1);
}

/// What the newest event of this type says of whom it is about, and where from.
async fn whose(world: &World, event_type: &str) -> Value {
    let events = world.events(&format!("event_type={event_type}")).await;
    let event = events.last().unwrap();
    let members = [
        "error_kind",
        "pod_uid",
        "policy_uid",
        "task_id",
        "orch_id",
        "actor",
        "source",
    ];
    Value::from(members.map(|member| event[member].clone()).to_vec())
}

#[tokio::test]
async fn the_event_of_a_refusal_says_whose_it_is_and_where_from() {
    let world = World::new().await.with_policies().await;
    let (pod, keys) = (world.pod("p1"), Keys::new(1));
    let actor = "system:serviceaccount:shop:reader";
    let ask = json!({"policy": "reader", "public_key": keys.public(), "scopes": ["write:orders:7"]});
    let answer = world.call("POST", "/v1/k8s/launch-tokens", &pod.bearer(), &ask).await;
    assert_eq!(answer.refusal(), (403, "forbidden"));
    assert_eq!(
        whose(&world, "attestation_denied").await,
        json!(["scope_not_allowed", "p1", "ltok-uid", "p1", null, actor, "10.0.0.7"]),
        "a launch"
    );

    let gone = world.pod("p2");
    world.cluster.remove_pod("shop", "pod-p2");
    world.launch(&gone, &keys).await;
    assert_eq!(
        whose(&world, "attestation_denied").await,
        json!(["pod_not_found", "p2", null, "p2", null, actor, "10.0.0.7"]),
        "a pod that is not there"
    );

    let launched = World::launched(world.launch(&pod, &keys).await);
    let refused = world.register_with(&launched, &Keys::new(2), &json!({})).await;
    assert_eq!(refused.refusal(), (403, "forbidden"));
    assert_eq!(
        whose(&world, "registration_denied").await,
        json!([
            "key_mismatch",
            "p1",
            "ltok-uid",
            "p1",
            "k8s.shop.orders",
            null,
            "10.0.0.7"
        ]),
        "a registration"
    );
}
