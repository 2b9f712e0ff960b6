//! What the event of a refusal says was asked for.

use agentwrit_protocol::audit::AuditEvent;
use agentwrit_protocol::excerpt::REQUEST_DESCRIPTION_BYTES;
use agentwrit_testkit::{Harness, registration};
use serde_json::{Value, json};

/// What the detail of the last event of a type says was asked for; it stays within its bound.
async fn asked(harness: &Harness, event_type: &str) -> String {
    let event: AuditEvent = serde_json::from_value(harness.last(event_type).await).unwrap();
    assert_eq!(event.hash, event.compute_hash());
    let detail = event.detail.split(" ext_hash=").next().unwrap();
    let (_, asked) = detail.split_once("; requested ").unwrap();
    assert!(asked.len() < REQUEST_DESCRIPTION_BYTES, "{} bytes", asked.len());
    asked.to_owned()
}

/// More than an event repeats.
fn many() -> Vec<String> {
    (0..120).map(|n| format!("write:data:{n:03}")).collect()
}

const BEGINNING: &str = "120 scopes [write:data:000, write:data:001, ";

#[tokio::test]
async fn a_refused_registration_is_audited_with_scopes_and_issuer() {
    let harness = Harness::new().await;
    let launch_token = harness.launch(json!({"agent_name": "night \"shift\""})).await;
    let body = harness
        .registration(&launch_token, json!({"requested_scope": many()}))
        .await;
    harness.post("/v1/register", body.to_string()).await.refused(
        403,
        "scope_violation",
        "requested scope exceeds allowed scope",
    );
    let told = asked(&harness, "registration_policy_violation").await;
    assert!(told.starts_with(BEGINNING) && told.contains(", … (+"), "{told}");
    assert!(
        told.ends_with("; agent_name \"night \\\"shift\\\"\"; launched by \"admin\""),
        "{told}"
    );

    let body = registration(&launch_token, &"ab".repeat(32), json!({}));
    harness
        .post("/v1/register", body.to_string())
        .await
        .refused(401, "unauthorized", "nonce not found or expired");
    let whose = "agent_name \"night \\\"shift\\\"\"; launched by \"admin\"";
    let told = asked(&harness, "registration_denied").await;
    assert_eq!(told, format!("1 scope [read:data:x]; {whose}"));

    harness
        .register(&launch_token, json!({"orch_id": "k8s.shop.orders"}))
        .await
        .refused_like(403, "forbidden", "");
    let told = asked(&harness, "registration_denied").await;
    assert_eq!(told, format!("1 scope [read:data:x]; {whose}"));
}

#[tokio::test]
async fn a_refused_strangers_claims_are_audited_without_secrets() {
    let harness = Harness::new().await;
    let claimed = "orch_id \"orch-1\"; task_id \"task-1\"";
    let unknown = "ab".repeat(32);
    let body = harness
        .registration(&unknown, json!({"requested_scope": ["read:data:x", "a b"]}))
        .await;
    harness
        .post("/v1/register", body.to_string())
        .await
        .refused(401, "unauthorized", "launch token not found");
    let told = asked(&harness, "registration_denied").await;
    assert_eq!(told, format!("2 scopes [read:data:x, \"a b\"]; {claimed}"));
    let event = harness.last("registration_denied").await.to_string();
    for secret in ["launch_token", "nonce", "signature", "public_key"] {
        assert!(!event.contains(body[secret].as_str().unwrap()), "{secret}: {event}");
    }

    let app = harness.app("shop", json!({})).await;
    let body = json!({"agent_name": "reader", "allowed_scope": ["read:data:x"]}).to_string();
    let launched = harness
        .post_as(&harness.app_token(&app).await, "/v1/app/launch-tokens", body)
        .await
        .ok();
    let used = launched["launch_token"].as_str().unwrap();
    harness.register(used, json!({})).await.ok();
    harness
        .register(used, json!({}))
        .await
        .refused(401, "unauthorized", "launch token already consumed");
    let told = asked(&harness, "registration_denied").await;
    let whose = format!("agent_name \"reader\"; launched by \"app:{}\"", app.id);
    assert_eq!(told, format!("1 scope [read:data:x]; {whose}; {claimed}"));
    assert!(!harness.last("registration_denied").await.to_string().contains(used));
}

#[tokio::test]
async fn a_refused_launch_token_says_scopes_name_and_app() {
    let ceiling: Vec<String> = (0..200).map(|n| format!("read:data:{n:03}")).collect();
    let harness = Harness::new().await;
    let app = harness.app("shop", json!({"scopes": ceiling})).await;
    let token = harness.app_token(&app).await;
    let over = json!({"agent_name": "reader", "allowed_scope": many()}).to_string();
    let answer = harness.post_as(&token, "/v1/app/launch-tokens", over).await;
    answer.refused_like(403, "forbidden", "read:data:199");
    let told = asked(&harness, "scope_ceiling_exceeded").await;
    assert!(told.starts_with(BEGINNING) && told.contains(", … (+"), "{told}");
    assert!(
        told.ends_with(&format!("; agent_name \"reader\"; app \"{}\"", app.id)),
        "{told}"
    );
    let event = harness.last("scope_ceiling_exceeded").await;
    let detail = event["detail"].as_str().unwrap();
    assert!(
        detail.contains("allowed scopes: read:data:000, ") && detail.len() < 2 * REQUEST_DESCRIPTION_BYTES,
        "{detail}"
    );

    let admin = harness.admin().await;
    for (body, wanted) in [
        (
            json!({"agent_name": "reader", "allowed_scope": ["read:data:x", "read"]}),
            "2 scopes [read:data:x, read]; agent_name \"reader\"",
        ),
        (json!({"allowed_scope": ["read:data:x"]}), "1 scope [read:data:x]"),
        (json!({"agent_name": "reader"}), "no scopes; agent_name \"reader\""),
    ] {
        let answer = harness
            .post_as(&admin, "/v1/admin/launch-tokens", body.to_string())
            .await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(asked(&harness, "launch_token_denied").await, wanted);
    }
}

#[tokio::test]
async fn a_refused_delegation_is_audited_with_scopes_and_target() {
    let harness = Harness::new().await;
    let (agent, token) = harness.agent(json!({"requested_scope": ["read:data:*"]})).await;
    let ask = async |to: &str, scope: Value| {
        let body = json!({"delegate_to": to, "scope": scope}).to_string();
        let answer = harness.post_as(&token, "/v1/delegate", body).await;
        assert!(matches!(answer.status, 403 | 404), "{answer:?}");
        asked(&harness, "delegation_attenuation_violation").await
    };
    let told = ask(&agent, json!(many())).await;
    assert!(told.starts_with(BEGINNING), "{told}");
    assert!(told.ends_with(&format!("; delegate_to \"{agent}\"")), "{told}");
    let told = ask("nobody", json!(["read:data:x"])).await;
    assert_eq!(told, "1 scope [read:data:x]; delegate_to \"nobody\"");
}

#[tokio::test]
async fn text_that_looks_like_a_secret_is_masked() {
    let harness = Harness::new().await;
    let launch_token = harness.launch(json!({"agent_name": "secret-scanner"})).await;
    let ask = async |scope: Value| {
        harness
            .register(&launch_token, json!({"requested_scope": scope}))
            .await
            .refused_like(403, "scope_violation", "");
        asked(&harness, "registration_policy_violation").await
    };
    // A word alone masks nothing: there is no separator of the contract's after it.
    let told = ask(json!(["read:secret:x"])).await;
    assert_eq!(
        told,
        "1 scope [read:secret:x]; agent_name \"secret-scanner\"; launched by \"admin\""
    );
    let told = ask(json!(["write:data:x", "secret:data:y=hunter2"])).await;
    assert_eq!(told, "2 scopes [write:data:x, secret:data:y=***REDACTED***");
}
