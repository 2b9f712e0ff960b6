//! Rates and caps of agents that aren't attested: none that a client of the contract could meet, unless they are set.

use agentwrit_testkit::{Answer, Harness};
use serde_json::{Value, json};

async fn delegate(harness: &Harness, token: &str, to: &str) -> Answer {
    let body = json!({"delegate_to": to, "scope": ["read:data:x"]}).to_string();
    harness.post_as(token, "/v1/delegate", body).await
}

fn token(answer: Answer) -> String {
    answer.ok()["access_token"].as_str().unwrap().to_owned()
}

#[track_caller]
fn limited(answer: &Answer) {
    answer.refused_like(429, "rate_limited", "");
    assert_eq!(answer.header("retry-after"), "1");
}

#[tokio::test]
async fn limits_that_are_not_set_refuse_no_client() {
    let harness = Harness::new().await;
    let (id, mut current) = harness.agent(json!({})).await;
    for _ in 0..300 {
        delegate(&harness, &current, &id).await.ok();
        current = token(harness.renew(&current).await);
    }
}

#[tokio::test]
async fn renewals_leave_nothing_in_memory_but_the_current_token() {
    let harness = Harness::new().await;
    let (id, mut current) = harness.agent(json!({})).await;
    let mut child = token(delegate(&harness, &current, &id).await);
    let (first, first_child) = (current.clone(), child.clone());
    for _ in 0..100 {
        current = token(harness.renew(&current).await);
        child = token(harness.renew(&child).await);
    }
    assert_eq!(
        harness.state.tokens.view.entries(),
        2,
        "of the session and of the delegation"
    );
    let harness = harness.restart(&[]).await;
    assert_eq!(harness.state.tokens.view.entries(), 2);
    for (token, stands) in [(&first, false), (&first_child, false), (&current, true), (&child, true)] {
        assert_eq!(harness.stands(token).await, stands);
    }
    // In memory they go with the last token that they could judge.
    harness.clock.advance(301);
    agentwrit_broker::process::housekeeping::prune(&harness.state).await;
    assert_eq!(harness.state.tokens.view.entries(), 0);
}

#[tokio::test]
async fn a_session_has_the_rate_that_is_set() {
    let harness = Harness::with(&[("AA_SESSION_RATE", "2")]).await;
    let (id, mut current) = harness.agent(json!({})).await;
    for _ in 0..4 {
        delegate(&harness, &current, &id).await.ok();
        current = token(harness.renew(&current).await);
    }
    limited(&harness.renew(&current).await);
    limited(&delegate(&harness, &current, &id).await);
    assert_eq!(harness.last("token_renewal_failed").await["error_kind"], "renewal_rate");
    assert!(harness.stands(&current).await, "nothing changed");
    let (_, other) = harness.agent(json!({})).await;
    harness.renew(&other).await.ok();
    harness.clock.advance(1);
    delegate(&harness, &current, &id).await.ok();
    harness.renew(&current).await.ok();
}

#[tokio::test]
async fn a_delegate_can_not_stop_its_delegator() {
    let harness = Harness::with(&[("AA_SESSION_RATE", "4"), ("AA_MAX_OPEN_DELEGATIONS", "8")]).await;
    let (id, mut root) = harness.agent(json!({})).await;
    let mut child = token(delegate(&harness, &root, &id).await);
    let other = token(delegate(&harness, &root, &id).await);
    // Half of what may be done at once, and half of the places.
    for _ in 0..4 {
        child = token(harness.renew(&child).await);
        delegate(&harness, &child, &id).await.ok();
    }
    limited(&harness.renew(&child).await);
    limited(&delegate(&harness, &child, &id).await);
    harness.clock.advance(1);
    let full = delegate(&harness, &child, &id).await;
    limited(&full);
    assert!(
        full.text.contains("4 delegations stand below this delegate"),
        "{}",
        full.text
    );
    for _ in 0..8 {
        root = token(harness.renew(&root).await);
    }
    let other = token(harness.renew(&other).await);
    delegate(&harness, &other, &id).await.ok();
    delegate(&harness, &root, &id).await.ok();
    limited(&delegate(&harness, &root, &id).await);
}

#[tokio::test]
async fn open_delegations_are_capped_and_ended_ones_make_room() {
    let harness = Harness::with(&[("AA_MAX_OPEN_DELEGATIONS", "3")]).await;
    let (id, root) = harness.agent(json!({})).await;
    let child = token(delegate(&harness, &root, &id).await);
    delegate(&harness, &child, &id).await.ok();
    delegate(&harness, &root, &id).await.ok();
    limited(&delegate(&harness, &root, &id).await);
    limited(&delegate(&harness, &child, &id).await);
    let event: Value = harness.last("delegation_attenuation_violation").await;
    assert_eq!(event["error_kind"], "open_delegations");
    // A renewed one is still one.
    harness.clock.advance(1);
    let child = token(harness.renew(&child).await);
    limited(&delegate(&harness, &root, &id).await);
    assert_eq!(harness.post_as(&child, "/v1/token/release", "").await.status, 204);
    harness.clock.advance(1);
    delegate(&harness, &root, &id).await.ok();
    limited(&delegate(&harness, &root, &id).await);
    harness.clock.advance(61);
    delegate(&harness, &root, &id).await.ok();
}
