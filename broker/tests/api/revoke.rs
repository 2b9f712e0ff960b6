//! Revocation at four levels.

use agentwrit_testkit::{Answer, Harness, claims};
use serde_json::{Value, json};

async fn revoke(harness: &Harness, level: &str, target: &str) -> Answer {
    let admin = harness.admin().await;
    harness
        .post_as(
            &admin,
            "/v1/revoke",
            json!({"level": level, "target": target}).to_string(),
        )
        .await
}

fn jti(token: &str) -> String {
    claims(token)["jti"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_level_hits_what_it_names_and_nothing_else() {
    for level in ["token", "agent", "task", "chain"] {
        let harness = Harness::new().await;
        let (agent, token) = harness.agent(json!({"task_id": "t1"})).await;
        let (_, other) = harness.agent(json!({"task_id": "t2"})).await;
        let jti = jti(&token);
        let target = match level {
            "token" => jti.as_str(),
            "task" => "t1",
            _ => agent.as_str(),
        };
        let answer = revoke(&harness, level, target).await.ok();
        assert_eq!(
            answer,
            json!({"revoked": true, "level": level, "target": target, "count": 1})
        );
        // The chain level hits tokens that the target delegated, not its own.
        assert_eq!(harness.stands(&token).await, level == "chain", "{level}");
        assert!(harness.stands(&other).await, "{level}");
        if level != "chain" {
            harness
                .renew(&token)
                .await
                .refused(403, "insufficient_scope", "token has been revoked");
        }
        let event = harness.last("token_revoked").await;
        assert_eq!(
            (event["agent_id"].as_str(), event["actor"].as_str()),
            (Some(target), Some("admin"))
        );
        assert!(event.get("task_id").is_none());
        let metrics = harness.get("/v1/metrics").await.text;
        assert!(metrics.contains(&format!("agentwrit_tokens_revoked_total{{level=\"{level}\"}} 1")));
    }
}

#[tokio::test]
async fn revoking_a_token_ends_its_session_with_every_later_token() {
    let harness = Harness::new().await;
    let (_, first) = harness.agent(json!({})).await;
    let second = harness.renew(&first).await.ok()["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    revoke(&harness, "token", &jti(&first)).await.ok();
    assert!(
        harness.stands(&second).await,
        "an older jti is recorded and hits nothing else"
    );
    revoke(&harness, "token", &jti(&second)).await.ok();
    assert!(!harness.stands(&second).await);
}

#[tokio::test]
async fn revocation_is_idempotent_and_knows_no_unknown_target() {
    let harness = Harness::new().await;
    for _ in 0..2 {
        assert_eq!(revoke(&harness, "agent", "spiffe://nobody").await.ok()["count"], 1);
    }
}

#[tokio::test]
async fn what_is_asked_wrongly_is_named() {
    let harness = Harness::new().await;
    let admin = harness.admin().await;
    for body in [
        json!({}),
        json!({"level": "token"}),
        json!({"target": "x"}),
        json!({"level": "", "target": "x"}),
        Value::Null,
    ] {
        let answer = harness.post_as(&admin, "/v1/revoke", body.to_string()).await;
        answer.refused(400, "invalid_request", "level and target are required");
    }
    revoke(&harness, "everything", "x")
        .await
        .refused_like(400, "invalid_request", "invalid revocation level: ");
    for target in ["admin", "app:app-x-123456"] {
        revoke(&harness, "agent", target)
            .await
            .refused_like(400, "invalid_request", target);
    }
    assert!(harness.stands(&admin).await);
}

#[tokio::test]
async fn an_admin_can_revoke_one_admin_token() {
    let harness = Harness::new().await;
    let admin = harness.login().await;
    revoke(&harness, "token", &jti(&admin)).await.ok();
    harness
        .get_as(&admin, "/v1/audit/events")
        .await
        .refused(403, "insufficient_scope", "token has been revoked");
}

#[tokio::test]
async fn agents_can_t_revoke() {
    let harness = Harness::new().await;
    let (agent, token) = harness.agent(json!({})).await;
    let answer = harness
        .post_as(
            &token,
            "/v1/revoke",
            json!({"level": "agent", "target": agent}).to_string(),
        )
        .await;
    answer.refused(403, "insufficient_scope", "token lacks required scope: admin:revoke:*");
}

#[tokio::test]
async fn entries_are_forgotten_when_they_can_hit_nothing_more() {
    let harness = Harness::with(&[("AA_MAX_TTL", "600")]).await;
    let (_, token) = harness.agent(json!({"task_id": "t1"})).await;
    revoke(&harness, "task", "t1").await.ok();
    harness.clock.advance(599);
    agentwrit_broker::process::housekeeping::prune(&harness.state).await;
    let (_, later) = harness.agent(json!({"task_id": "t1"})).await;
    assert!(
        !harness.stands(&later).await,
        "a task stays revoked for the longest life of a token"
    );
    harness.clock.advance(3);
    agentwrit_broker::process::housekeeping::prune(&harness.state).await;
    let harness = harness.restart(&[]).await;
    let (_, free) = harness.agent(json!({"task_id": "t1"})).await;
    assert!(harness.stands(&free).await && !harness.stands(&token).await);
}
