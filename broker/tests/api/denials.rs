//! Denials inside transactions: beyond the rate they are decided and answered as before, and only counted in the trail.

use agentwrit_testkit::Harness;
use serde_json::{Value, json};

const RATE: usize = 3;

/// What is suppressed is told by a timer.
async fn suppressed(harness: &Harness) -> i64 {
    harness.state.denials.flush_suppressed();
    let mut sum = 0;
    for event in harness.events("error_kind=suppressed").await {
        let detail = event["detail"].as_str().unwrap().trim_start_matches("suppressed=");
        let number = detail.split(' ').next().unwrap();
        sum += number.parse::<i64>().unwrap();
    }
    sum
}

async fn harness() -> Harness {
    Harness::with(&[("AA_DENIAL_AUDIT_RATE", &RATE.to_string())]).await
}

#[tokio::test]
async fn refused_delegations_are_audited_up_to_the_rate() {
    let harness = harness().await;
    let (id, token) = harness.agent(json!({})).await;
    for number in 0..300 {
        let (scope, status, code) = if number % 2 == 0 {
            ("other:data:x", 403, "scope_violation")
        } else {
            ("read:data:x", 404, "not_found")
        };
        let body = json!({"delegate_to": format!("{id}x"), "scope": [scope]}).to_string();
        let answer = harness.post_as(&token, "/v1/delegate", body).await;
        answer.refused_like(status, code, "");
    }
    let denied = harness.events("event_type=delegation_attenuation_violation").await;
    assert_eq!(denied.len(), RATE);
    assert_eq!(suppressed(&harness).await, 300 - 3);
    // Whoever else is refused is told in the trail.
    let (_, other) = harness.agent(json!({})).await;
    let body = json!({"delegate_to": id, "scope": ["other:data:x"]}).to_string();
    harness
        .post_as(&other, "/v1/delegate", body)
        .await
        .refused_like(403, "scope_violation", "");
    assert_eq!(
        harness
            .events("event_type=delegation_attenuation_violation")
            .await
            .len(),
        RATE + 1
    );
}

#[tokio::test]
async fn refused_registrations_and_launch_tokens_are_counted_too() {
    let harness = harness().await;
    let launch = harness.launch(json!({})).await;
    for _ in 0..100 {
        let wanted = json!({"requested_scope": ["other:data:x"]});
        harness
            .register(&launch, wanted)
            .await
            .refused_like(403, "scope_violation", "");
        let wanted = json!({"public_key": "AAAA"});
        harness
            .register(&launch, wanted)
            .await
            .refused_like(401, "unauthorized", "");
    }
    let denied = harness.events("outcome=denied").await;
    assert_eq!(denied.len(), RATE, "of one source, whatever the step");
    let app = harness.app("orders", json!({})).await;
    let token = harness.app_token(&app).await;
    for _ in 0..200 {
        let body = json!({"agent_name": "a", "allowed_scope": ["other:data:x"]}).to_string();
        harness
            .post_as(&token, "/v1/app/launch-tokens", body)
            .await
            .refused_like(403, "forbidden", "");
    }
    assert_eq!(harness.events("event_type=scope_ceiling_exceeded").await.len(), RATE);
    assert_eq!(suppressed(&harness).await, 200 - 3 + 200 - 3);
    // It counts for the trail alone: the launch token is as good as before.
    harness.register(&launch, json!({})).await.ok();
}

#[tokio::test]
async fn tokens_that_were_renewed_or_released_are_counted_by_session() {
    let harness = harness().await;
    let (_, first) = harness.agent(json!({})).await;
    let second: Value = harness.renew(&first).await.ok();
    for _ in 0..50 {
        harness
            .renew(&first)
            .await
            .refused_like(403, "insufficient_scope", "revoked");
        harness
            .post_as(&first, "/v1/token/release", "")
            .await
            .refused_like(403, "insufficient_scope", "revoked");
    }
    assert_eq!(harness.events("outcome=denied").await.len(), RATE);
    let current = second["access_token"].as_str().unwrap();
    assert_eq!(harness.post_as(current, "/v1/token/release", "").await.status, 204);
    assert_eq!(suppressed(&harness).await, 100 - 3);
    harness.clock.advance(1);
    harness
        .renew(current)
        .await
        .refused_like(403, "insufficient_scope", "revoked");
    let last = harness.last("token_revoked_access").await;
    assert_eq!(
        (&last["error_kind"], &last["outcome"]),
        (&json!("released"), &json!("denied"))
    );
}
