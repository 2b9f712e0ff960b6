//! The bearer check, in its order.

use agentwrit_testkit::{Harness, START, claims, controller};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

const EVENTS: &str = "/v1/audit/events";

/// A token of ours with other claims.
fn forged(harness: &Harness, token: &str, changes: &Value) -> String {
    let mut claims = claims(token);
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    harness
        .state
        .tokens
        .keys
        .sign(&serde_json::to_vec(&claims).unwrap())
        .unwrap()
}

#[tokio::test]
async fn header_and_scheme_come_first() {
    let harness = Harness::new().await;
    harness
        .get(EVENTS)
        .await
        .refused(401, "unauthorized", "missing authorization header");
    let event = harness.last("token_auth_failed").await;
    assert_eq!(
        (event["resource"].as_str(), event["outcome"].as_str()),
        (Some(EVENTS), Some("denied"))
    );
    assert_eq!(event["error_kind"], "missing_authorization");
    assert!(event.get("agent_id").is_none());
    let empty = harness.send("GET", EVENTS, &[("authorization", "")], "").await;
    empty.refused(401, "unauthorized", "missing authorization header");
    assert_eq!(
        harness.last("token_auth_failed").await["error_kind"],
        "missing_authorization"
    );
    let admin = harness.admin().await;
    for bad in [
        format!("bearer {admin}"),
        format!("Basic {admin}"),
        admin.clone(),
        "Bearer".to_owned(),
    ] {
        let answer = harness.send("GET", EVENTS, &[("authorization", &bad)], "").await;
        answer.refused(401, "unauthorized", "invalid authorization scheme");
    }
    let two_spaces = format!("Bearer  {admin}");
    let answer = harness.send("GET", EVENTS, &[("authorization", &two_spaces)], "").await;
    answer.refused(401, "unauthorized", "token verification failed");
}

#[tokio::test]
async fn nothing_but_our_own_fresh_token_verifies() {
    let harness = Harness::with(&[("AA_ISSUER", "me")]).await;
    let admin = harness.admin().await;
    assert_eq!(harness.get_as(&admin, EVENTS).await.status, 200);
    let parts: Vec<&str> = admin.split('.').collect();
    let header = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = |header: &str| {
        let message = format!("{header}.{}", parts[1]);
        format!("{message}.{}", parts[2])
    };
    let flipped = {
        let last = if admin.ends_with('A') { 'B' } else { 'A' };
        format!("{}{last}", &admin[..admin.len() - 1])
    };
    let now = START;
    let table = [
        ("malformed_token", "x".to_owned()),
        ("malformed_token", format!("{admin}.x")),
        ("malformed_token", format!("{admin}=")),
        ("unexpected_algorithm", signed(&header(r#"{"alg":"none"}"#))),
        ("unexpected_algorithm", signed(&header(r#"{"alg":"HS256"}"#))),
        ("unknown_key", signed(&header(r#"{"alg":"EdDSA","kid":"other"}"#))),
        ("bad_signature", signed(&header(r#"{"alg":"EdDSA"}"#))),
        ("missing_claim", forged(&harness, &admin, &json!({"sub": ""}))),
        ("missing_claim", forged(&harness, &admin, &json!({"jti": ""}))),
        ("missing_claim", forged(&harness, &admin, &json!({"exp": 0}))),
        ("token_expired", forged(&harness, &admin, &json!({"exp": now - 1}))),
        (
            "token_not_yet_valid",
            forged(&harness, &admin, &json!({"nbf": now + 1})),
        ),
        ("unexpected_issuer", forged(&harness, &admin, &json!({"iss": "other"}))),
    ];
    for (kind, token) in table {
        harness
            .get_as(&token, EVENTS)
            .await
            .refused(401, "unauthorized", "token verification failed");
        assert_eq!(harness.last("token_auth_failed").await["error_kind"], kind, "{token}");
    }
    // The last character of an Ed25519 signature carries unused bits: one token, one spelling.
    harness
        .get_as(&flipped, EVENTS)
        .await
        .refused(401, "unauthorized", "token verification failed");
    let metrics = harness.get("/v1/metrics").await.text;
    assert!(metrics.contains("agentwrit_clock_skew_total 1"), "{metrics}");
}

#[tokio::test]
async fn a_revoked_bearer_gets_403_with_the_reason() {
    let harness = Harness::new().await;
    let (agent, token) = harness.agent(json!({})).await;
    assert_eq!(harness.post_as(&token, "/v1/token/release", "").await.status, 204);
    for path in ["/v1/token/renew", "/v1/token/release", "/v1/revoke"] {
        let answer = harness.post_as(&token, path, "").await;
        answer.refused(403, "insufficient_scope", "token has been revoked");
        let event = harness.last("token_revoked_access").await;
        assert_eq!(event["agent_id"], agent);
        assert_eq!(
            (event["task_id"].as_str(), event["orch_id"].as_str()),
            (Some("task-1"), Some("orch-1"))
        );
        assert_eq!(
            (event["resource"].as_str(), event["error_kind"].as_str()),
            (Some(path), Some("released"))
        );
    }
    harness.clock.advance(301);
    harness
        .renew(&token)
        .await
        .refused(401, "unauthorized", "token verification failed");
}

#[tokio::test]
async fn the_audience_counts_after_revocation_and_before_scope() {
    let harness = Harness::with(&[("AA_AUDIENCE", "here")]).await;
    let admin = harness.admin().await;
    assert_eq!(claims(&admin)["aud"], json!(["here"]));
    let elsewhere = forged(
        &harness,
        &admin,
        &json!({"aud": ["there"], "jti": "other", "scope": []}),
    );
    harness
        .get_as(&elsewhere, EVENTS)
        .await
        .refused(401, "unauthorized", "token audience mismatch");
    assert_eq!(harness.last("token_auth_failed").await["agent_id"], "admin");
    assert!(harness.stands(&elsewhere).await, "validate does not look at it");
}

#[tokio::test]
async fn scope_and_kind_of_subject_are_both_needed() {
    let harness = Harness::new().await;
    let (agent, token) = harness.agent(json!({})).await;
    let admin = harness.admin().await;
    let with_scope = forged(&harness, &token, &json!({"scope": ["admin:audit:*"], "jti": "j1"}));
    let without_scope = forged(&harness, &admin, &json!({"scope": ["admin:revoke:*"], "jti": "j2"}));
    let wildcard = forged(&harness, &admin, &json!({"scope": ["*:*:*"], "jti": "j3"}));
    for refused in [&token, &with_scope, &without_scope, &wildcard] {
        let answer = harness.get_as(refused, EVENTS).await;
        answer.refused(403, "insufficient_scope", "token lacks required scope: admin:audit:*");
    }
    let events = harness.events("event_type=scope_violation").await;
    assert_eq!(events.len(), 4);
    assert_eq!(
        (events[0]["agent_id"].as_str(), events[0]["resource"].as_str()),
        (Some(agent.as_str()), Some(EVENTS))
    );
    assert!(
        events[0]["correlation_id"].as_str().is_some_and(|id| !id.is_empty()),
        "the session is known"
    );
    let exact = forged(&harness, &admin, &json!({"scope": ["admin:audit:*"], "jti": "j4"}));
    assert_eq!(harness.get_as(&exact, EVENTS).await.status, 200);
}

#[tokio::test]
async fn the_body_is_parsed_after_the_bearer() {
    let harness = Harness::new().await;
    harness
        .post("/v1/revoke", "not json")
        .await
        .refused(401, "unauthorized", "missing authorization header");
    let admin = harness.admin().await;
    harness
        .post_as(&admin, "/v1/revoke", "not json")
        .await
        .refused(400, "invalid_request", "malformed JSON body");
}

#[tokio::test]
async fn a_refused_caller_in_a_loop_does_not_fill_the_trail() {
    let harness = Harness::with(&[("AA_DENIAL_AUDIT_RATE", "3")]).await;
    let (_, token) = harness.agent(json!({})).await;
    assert_eq!(harness.post_as(&token, "/v1/token/release", "").await.status, 204);
    let (other, others) = harness.agent(json!({})).await;
    for _ in 0..20 {
        let answer = harness.renew(&token).await;
        answer.refused(403, "insufficient_scope", "token has been revoked");
    }
    assert_eq!(harness.events("event_type=token_revoked_access").await.len(), 3);
    assert_eq!(harness.get_as(&others, EVENTS).await.status, 403);
    assert_eq!(
        harness.last("scope_violation").await["agent_id"],
        other,
        "each subject has its own rate"
    );
    harness.state.denials.flush_suppressed();
    let told = harness.last("token_auth_failed").await;
    assert_eq!(told["error_kind"], "suppressed");
    let detail = told["detail"].as_str().unwrap();
    assert!(detail.starts_with("suppressed=17 "), "{detail}");
    let metrics = harness.get("/v1/metrics").await.text;
    assert!(
        metrics.contains("\nagentwrit_denials_suppressed_total 17\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn two_authorization_headers_are_none() {
    let harness = Harness::new().await;
    let good = format!("Bearer {}", harness.admin().await);
    for (first, second) in [
        (good.as_str(), good.as_str()),
        (good.as_str(), "Bearer x"),
        ("Bearer x", good.as_str()),
        ("", good.as_str()),
    ] {
        let headers = [("authorization", first), ("Authorization", second)];
        harness
            .send("GET", EVENTS, &headers, "")
            .await
            .refused(401, "unauthorized", "invalid authorization scheme");
    }
    let event = harness.last("token_auth_failed").await;
    assert_eq!(event["error_kind"], "invalid_authorization_scheme");

    let harness = Harness::in_cluster(Arc::default(), &[]).await;
    let controller = controller();
    let one = ("authorization", format!("Bearer {controller}"));
    let headers = [(one.0, one.1.as_str()); 2];
    let path = "/v1/k8s/denials";
    assert_eq!(harness.send("GET", path, &headers[..1], "").await.status, 200);
    assert_eq!(harness.send("GET", path, &headers, "").await.status, 403);
    assert_eq!(harness.last("attestation_denied").await["error_kind"], "bearer_missing");
}

#[tokio::test]
async fn a_path_of_any_length_leaves_a_short_event() {
    let harness = Harness::new().await;
    let path = format!("/v1/admin/apps/{}", "%C3%A9".repeat(5000));
    assert_eq!(harness.get(&path).await.status, 401);
    let (_, token) = harness.agent(json!({})).await;
    assert_eq!(harness.get_as(&token, &path).await.status, 403);
    for event_type in ["token_auth_failed", "scope_violation"] {
        let event = harness.last(event_type).await;
        let resource = event["resource"].as_str().unwrap();
        assert!(
            resource.chars().count() <= 260 && resource.starts_with("/v1/admin/apps/"),
            "{resource}"
        );
    }
}
