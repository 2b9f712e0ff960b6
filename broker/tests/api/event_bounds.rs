//! Events of the largest inputs that are accepted: each has a bound, and tells how much it left out.

use agentwrit_testkit::Harness;
use std::collections::BTreeSet;

use agentwrit_protocol::audit::MAX_EVENT_BYTES;
use agentwrit_protocol::go_json;
use serde_json::{Value, json};

/// Scopes of 30 KiB altogether, covered by `read:data:*`.
fn scopes() -> Value {
    let scope = |number: usize| format!("read:data:{number:03}{}", "x".repeat(12));
    json!((0..1000).map(scope).collect::<Vec<_>>())
}

#[tokio::test]
async fn the_largest_inputs_make_events_of_bounded_size() {
    let harness = Harness::with(&[("AA_TRUST_DOMAIN", &"d".repeat(255))]).await;
    let (orch, task) = ("o".repeat(253), "t".repeat(253));
    let admin = harness.admin().await;
    let app = harness.app("orders", json!({"scopes": scopes()})).await;
    let change = format!("/v1/admin/apps/{}", app.id);
    let mut reordered = scopes();
    reordered.as_array_mut().unwrap().reverse();
    let put = json!({"scopes": reordered}).to_string();
    harness.send_as(&admin, "PUT", &change, put).await.ok();
    let app_token = harness.app_token(&app).await;
    let name = "\u{1}".repeat(16_384);
    let launch = json!({"agent_name": name, "allowed_scope": scopes(), "single_use": false}).to_string();
    harness.post_as(&admin, "/v1/admin/launch-tokens", &launch).await.ok();
    let launched = harness.post_as(&app_token, "/v1/app/launch-tokens", &launch).await.ok();
    let launch_token = launched["launch_token"].as_str().unwrap();
    let wanted = json!({"requested_scope": scopes(), "orch_id": orch, "task_id": task});
    let agent = harness.register(launch_token, wanted.clone()).await.ok();
    let (id, token) = (
        agent["agent_id"].as_str().unwrap(),
        agent["access_token"].as_str().unwrap(),
    );
    let delegate = async |to: &str, scopes: Value| {
        let body = json!({"delegate_to": to, "scope": scopes}).to_string();
        harness.post_as(token, "/v1/delegate", body).await
    };
    delegate(id, scopes()).await.ok();
    // Denials: of scopes beyond, of names beyond, of a path as long as a head may be.
    let other = json!(
        (0..1000)
            .map(|number| format!("other:data:{number}"))
            .collect::<Vec<_>>()
    );
    delegate(id, other.clone())
        .await
        .refused_like(403, "scope_violation", "");
    delegate(&"\u{1}".repeat(90_000), scopes())
        .await
        .refused_like(404, "not_found", "");
    let wanted = json!({"requested_scope": other, "orch_id": orch, "task_id": task});
    harness
        .register(launch_token, wanted)
        .await
        .refused_like(403, "scope_violation", "");
    let wanted = json!({"requested_scope": scopes(), "orch_id": orch, "task_id": task, "nonce": "n".repeat(90_000)});
    harness
        .register(launch_token, wanted)
        .await
        .refused_like(401, "unauthorized", "nonce");
    let beyond = json!({"agent_name": name, "allowed_scope": other}).to_string();
    harness
        .post_as(&app_token, "/v1/app/launch-tokens", beyond)
        .await
        .refused_like(403, "forbidden", "ceiling");
    let path = format!("/v1/admin/apps/{}", "x".repeat(30_000));
    harness
        .get_as(token, &path)
        .await
        .refused_like(403, "insufficient_scope", "");
    let renewed = harness.renew(token).await.ok();
    harness
        .renew(token)
        .await
        .refused_like(403, "insufficient_scope", "revoked");
    harness
        .post_as(renewed["access_token"].as_str().unwrap(), "/v1/token/release", "")
        .await;
    for level in ["agent", "task", "chain", "token"] {
        let body = json!({"level": level, "target": "\u{1}".repeat(16_384)}).to_string();
        harness.post_as(&admin, "/v1/revoke", body).await.ok();
    }
    harness.send_as(&admin, "DELETE", &change, "").await.ok();

    let events = harness.events("limit=1000").await;
    let mut types = BTreeSet::new();
    for event in &events {
        let bytes = go_json::to_vec(event).unwrap().len();
        assert!(bytes <= MAX_EVENT_BYTES, "{bytes} bytes: {event}");
        types.insert(event["event_type"].as_str().unwrap());
    }
    for wanted in [
        "admin_auth",
        "app_registered",
        "app_updated",
        "app_authenticated",
        "app_deregistered",
        "launch_token_issued",
        "scope_ceiling_exceeded",
        "agent_registered",
        "token_issued",
        "delegation_created",
        "token_renewed",
        "token_released",
        "token_revoked",
        "token_revoked_access",
        "delegation_attenuation_violation",
        "registration_policy_violation",
        "registration_denied",
        "scope_violation",
    ] {
        assert!(types.contains(wanted), "{wanted} is not among {types:?}");
    }
    for lists in [
        "app_registered",
        "app_updated",
        "launch_token_issued",
        "token_issued",
        "delegation_created",
    ] {
        let event = harness.last(lists).await;
        assert!(event["detail"].as_str().unwrap().contains(", … (+"), "{event}");
    }
    let long = "\u{1}".repeat(16_384).replace('\u{1}', "%01");
    let found = harness.events(&format!("agent_id={long}")).await;
    assert_eq!(
        found.len(),
        4,
        "found by the whole target although the event has less of it"
    );
    assert!(found[0]["agent_id"].as_str().unwrap().ends_with("… (16384 bytes)"));
}
