//! `AA_NBF_SKEW_SECONDS`: every token is good a little before it was issued, for verifiers whose clock is behind.

use agentwrit_testkit::{Harness, claims};
use serde_json::{Value, json};

/// A token of each kind that the broker issues.
async fn one_of_each(harness: &Harness) -> Vec<(&'static str, String)> {
    let text = |answer: &Value| answer["access_token"].as_str().unwrap().to_owned();
    let app = harness.app("desk", json!({})).await;
    let (from, agent) = harness.agent(json!({"requested_scope": ["read:data:*"]})).await;
    let (to, _) = harness.agent(json!({"requested_scope": ["read:data:y"]})).await;
    let body = json!({"delegate_to": to, "scope": ["read:data:x"]}).to_string();
    let delegated = harness.post_as(&agent, "/v1/delegate", body).await.ok();
    harness.clock.advance(100);
    let renewed = harness.renew(&agent).await.ok();
    assert_ne!(from, to);
    vec![
        ("admin", harness.login().await),
        ("app", harness.app_token(&app).await),
        ("agent", agent),
        ("delegated", text(&delegated)),
        ("renewed", text(&renewed)),
    ]
}

#[tokio::test]
async fn nbf_of_every_token_lies_before_iat_by_the_setting() {
    for (setting, skew) in [("", 0), ("5", 5), ("60", 60)] {
        let harness = Harness::with(&[("AA_NBF_SKEW_SECONDS", setting)]).await;
        for (kind, token) in one_of_each(&harness).await {
            let claims = claims(&token);
            let (nbf, iat) = (claims["nbf"].as_i64().unwrap(), claims["iat"].as_i64().unwrap());
            assert_eq!(iat - nbf, skew, "{kind} with {setting:?}");
            if !matches!(kind, "agent" | "delegated") {
                assert!(harness.stands(&token).await, "{kind} with {setting:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_token_lives_no_longer_by_it() {
    let harness = Harness::with(&[("AA_NBF_SKEW_SECONDS", "60")]).await;
    let (_, token) = harness.agent(json!({"requested_ttl": 100})).await;
    let claims = claims(&token);
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 100);
    harness.clock.advance(101);
    assert!(!harness.stands(&token).await);
}
