//! Renewal and release.

use agentwrit_testkit::{Harness, claims};
use serde_json::json;

#[tokio::test]
async fn a_renewed_token_is_the_same_agent_s_and_the_old_one_is_dead() {
    let harness = Harness::new().await;
    let (agent, first) = harness.agent(json!({"requested_ttl": 100})).await;
    harness.clock.advance(60);
    let answer = harness.post_as(&first, "/v1/token/renew", "whatever {").await.ok();
    assert_eq!(answer["expires_in"], 100);
    let second = answer["access_token"].as_str().unwrap();
    let (old, new) = (claims(&first), claims(second));
    for same in ["iss", "sub", "sid", "scope", "task_id", "orch_id"] {
        assert_eq!(old[same], new[same], "{same}");
    }
    assert_ne!(old["jti"], new["jti"]);
    assert_eq!(new["iat"].as_i64().unwrap() - old["iat"].as_i64().unwrap(), 60);
    assert_eq!(new["exp"].as_i64().unwrap() - new["iat"].as_i64().unwrap(), 100);
    assert!(!harness.stands(&first).await && harness.stands(second).await);
    harness
        .renew(&first)
        .await
        .refused(403, "insufficient_scope", "token has been revoked");
    assert_eq!(harness.last("token_renewed").await["agent_id"], agent);
    assert_eq!(harness.last("token_revoked_access").await["error_kind"], "renewed");
    assert!(
        harness.events("event_type=token_issued").await.len() == 1,
        "register only"
    );
}

#[tokio::test]
async fn a_renewal_is_clamped_and_refused_when_expired() {
    let harness = Harness::new().await;
    let (_, token) = harness.agent(json!({})).await;
    let harness = harness.restart(&[("AA_MAX_TTL", "60")]).await;
    let answer = harness.renew(&token).await.ok();
    assert_eq!(answer["expires_in"], 60);
    harness.clock.advance(61);
    let renewed = answer["access_token"].as_str().unwrap();
    harness
        .renew(renewed)
        .await
        .refused(401, "unauthorized", "token verification failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_renewals_have_exactly_one_winner() {
    let harness = Harness::new().await;
    let (_, token) = harness.agent(json!({})).await;
    let answers = futures_util::future::join_all((0..64).map(|_| harness.renew(&token))).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!((won.len(), lost.len()), (1, 63));
    for answer in lost {
        answer.refused(403, "insufficient_scope", "token has been revoked");
    }
    let winner = won[0].json()["access_token"].as_str().unwrap().to_owned();
    assert!(harness.stands(&winner).await);
}

#[tokio::test]
async fn only_agents_renew() {
    let harness = Harness::new().await;
    let admin = harness.admin().await;
    harness
        .renew(&admin)
        .await
        .refused_like(403, "insufficient_scope", "only tokens of agents");
    let event = harness.last("scope_violation").await;
    assert_eq!(
        (&event["agent_id"], &event["resource"]),
        (&json!("admin"), &json!("/v1/token/renew"))
    );
    assert!(harness.stands(&admin).await);
}

#[tokio::test]
async fn a_session_has_a_longest_age_when_set() {
    let harness = Harness::with(&[("AA_MAX_SESSION_AGE", "250")]).await;
    let (_, mut token) = harness.agent(json!({"requested_ttl": 100})).await;
    for _ in 0..2 {
        harness.clock.advance(100);
        token = harness.renew(&token).await.ok()["access_token"]
            .as_str()
            .unwrap()
            .to_owned();
    }
    harness.clock.advance(50);
    harness
        .renew(&token)
        .await
        .refused(401, "unauthorized", "token renewal failed");
    let event = harness.last("token_renewal_failed").await;
    assert_eq!(
        (event["error_kind"].as_str(), event["outcome"].as_str()),
        (Some("session_too_old"), Some("denied"))
    );
    assert!(harness.stands(&token).await, "until it expires");
}

#[tokio::test]
async fn a_released_token_is_dead_and_releasing_it_again_says_revoked() {
    let harness = Harness::new().await;
    let (agent, token) = harness.agent(json!({})).await;
    let answer = harness.post_as(&token, "/v1/token/release", "ignored").await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    assert!(!harness.stands(&token).await);
    let again = harness.post_as(&token, "/v1/token/release", "").await;
    again.refused(403, "insufficient_scope", "token has been revoked");
    assert_eq!(harness.last("token_released").await["agent_id"], agent);
    let metrics = harness.get("/v1/metrics").await.text;
    assert!(metrics.contains("agentwrit_tokens_revoked_total{level=\"release\"} 1"));
    assert!(metrics.contains("agentwrit_active_agents 0"));
}

#[tokio::test]
async fn admin_tokens_can_be_released_too() {
    let harness = Harness::new().await;
    let (one, other) = (harness.login().await, harness.login().await);
    assert_eq!(harness.post_as(&one, "/v1/token/release", "").await.status, 204);
    assert!(!harness.stands(&one).await && harness.stands(&other).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_parallel_releases_wins() {
    let harness = Harness::new().await;
    let (_, token) = harness.agent(json!({})).await;
    let release = || harness.post_as(&token, "/v1/token/release", "");
    let answers = futures_util::future::join_all((0..16).map(|_| release())).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 204).count(), 1);
    assert_eq!(harness.events("event_type=token_released").await.len(), 1);
}
