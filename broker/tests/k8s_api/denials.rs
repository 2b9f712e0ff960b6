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
