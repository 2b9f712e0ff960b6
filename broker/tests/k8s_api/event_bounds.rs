//! Events about pods and policies: each has a bound, and tells how much it left out.

use agentwrit_testkit::{Keys, World, claims};
use std::collections::BTreeSet;

use agentwrit_protocol::audit::MAX_EVENT_BYTES;
use agentwrit_protocol::go_json;
use serde_json::{Value, json};

/// 64 scopes of 256 bytes, covered by `read:orders:*`.
fn scopes(action: &str) -> Value {
    let scope = |number: usize| {
        let start = format!("{action}:orders:{number:02}");
        format!("{start}{}", "x".repeat(256 - start.len()))
    };
    json!((0..64).map(scope).collect::<Vec<_>>())
}

#[tokio::test]
async fn the_largest_inputs_of_pods_make_events_of_bounded_size() {
    let world = World::new().await;
    let mut app = world.app(1, "ready", &[]);
    app["spec"]["scopes"] = scopes("read");
    app["reason"] = json!("r".repeat(256));
    world.put_app(&app).await.ok();
    let mut policy = world.launch_token(1, "ready", &[]);
    policy["spec"]["allowed_scopes"] = scopes("read");
    policy["spec"]["agent_name"] = json!("n".repeat(256));
    world.put_launch_token(&policy).await.ok();
    let (pod, keys) = (world.pod("3f0e8a52-6a0b-4f7e-9d2b-0a1b2c3d4e5f"), Keys::new(1));
    let first = world.agent(&pod, &keys).await;
    let token = world.agent(&pod, &keys).await;
    assert!(world.stands(&first).await, "for 10 s more");
    let id = claims(&token)["sub"].clone();
    let delegate = async |scopes: Value| {
        let body = json!({"delegate_to": id, "scope": scopes});
        world.call("POST", "/v1/delegate", &token, &body).await
    };
    delegate(scopes("read")).await.ok();
    assert_eq!(delegate(scopes("write")).await.refusal(), (403, "scope_violation"));
    let body = json!({"policy": pod.policy, "public_key": keys.public(), "scopes": scopes("write")});
    let refused = world.call("POST", "/v1/k8s/launch-tokens", &pod.bearer(), &body).await;
    assert_eq!(refused.refusal(), (403, "forbidden"));
    let launched = World::launched(world.launch(&pod, &keys).await);
    let refused = world.register_with(&launched, &Keys::new(2), &json!({})).await;
    assert_eq!(refused.refusal(), (403, "forbidden"));
    world.revoke("agent", &id).await;
    world.release_pod(&pod.uid).await;
    let path = format!("/v1/k8s/pods/{}/ended", pod.uid);
    let body = json!({"namespace": "n".repeat(63), "name": "p".repeat(253), "reason": "r".repeat(256)});
    world.as_controller("POST", &path, &body).await.ok();
    let path = "/v1/k8s/policies/apps/shop/orders?uid=app-uid&lease_epoch=9&sequence=9&revoke=true";
    world.as_controller("DELETE", path, &Value::Null).await.ok();

    let mut types = BTreeSet::new();
    let events = world.events("limit=1000").await;
    for event in &events {
        let bytes = go_json::to_vec(event).unwrap().len();
        assert!(bytes <= MAX_EVENT_BYTES, "{bytes} bytes: {event}");
        types.insert(event["event_type"].as_str().unwrap());
        let detail = event["detail"].as_str().unwrap();
        assert!(
            !detail.contains(" bytes)"),
            "what an honest caller can cause is told in full: {detail}"
        );
        let lists = [
            "policy_applied",
            "launch_token_issued",
            "token_issued",
            "delegation_created",
        ];
        if lists.contains(&event["event_type"].as_str().unwrap()) && event["agent_id"].is_null() {
            assert!(detail.contains(", … (+"), "{event}");
        }
    }
    for wanted in [
        "policy_applied",
        "policy_removed",
        "launch_token_issued",
        "agent_registered",
        "token_issued",
        "agent_superseded",
        "delegation_created",
        "delegation_attenuation_violation",
        "attestation_denied",
        "registration_denied",
        "token_revoked",
        "pod_quarantined",
        "pod_released",
        "pod_ended",
    ] {
        assert!(types.contains(wanted), "{wanted} is not among {types:?}");
    }
}
