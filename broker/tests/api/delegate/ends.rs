//! What a delegated token ends with.

use super::*;

#[tokio::test]
async fn a_renewed_delegated_token_does_not_outlive_its_delegator() {
    let harness = Harness::new().await;
    let (id, token) = agent(&harness, "read:data:*").await;
    let end = claims(&token)["exp"].as_i64().unwrap();
    for (ttl, lives) in [
        (json!(0), 60),
        (json!(-5), 60),
        (json!(null), 60),
        (json!(10), 10),
        (json!(1_000_000), 300),
    ] {
        let answer = delegate(&harness, &token, &id, "read:data:x", json!({"ttl": ttl}))
            .await
            .ok();
        assert_eq!(answer["expires_in"], lives, "{ttl}");
    }
    let mut child = text(
        &delegate(&harness, &token, &id, "read:data:x", json!({"ttl": 200}))
            .await
            .ok(),
        "access_token",
    );
    for _ in 0..3 {
        harness.clock.advance(70);
        child = text(&harness.renew(&child).await.ok(), "access_token");
        assert!(claims(&child)["exp"].as_i64().unwrap() <= end);
        assert_eq!(claims(&child)["delegation_chain"].as_array().unwrap().len(), 1);
    }
    harness.clock.advance(91);
    assert!(!harness.stands(&child).await);
}

#[tokio::test]
async fn a_parents_renewal_kills_no_child_and_a_parents_end_kills_all() {
    let harness = Harness::new().await;
    let (id, token) = agent(&harness, "read:data:*").await;
    let child = delegated(&harness, &token, &id).await;
    let grandchild = delegated(&harness, &child, &id).await;
    let sibling = delegated(&harness, &token, &id).await;
    let renewed = text(&harness.renew(&token).await.ok(), "access_token");
    let all = [&*renewed, &*child, &*grandchild, &*sibling];
    assert_eq!(standing(&harness, &all).await, [true; 4]);
    let child = text(&harness.renew(&child).await.ok(), "access_token");
    let all = [&*renewed, &*child, &*grandchild, &*sibling];
    assert_eq!(standing(&harness, &all).await, [true; 4]);
    // A child's end is its descendants', not its sibling's.
    assert_eq!(harness.post_as(&child, "/v1/token/release", "").await.status, 204);
    assert_eq!(standing(&harness, &all).await, [true, false, false, true]);
    harness
        .renew(&grandchild)
        .await
        .refused(403, "insufficient_scope", "token has been revoked");
    let event = harness.last("token_revoked_access").await;
    assert_eq!(
        (&event["error_kind"], &event["agent_id"]),
        (&json!("released"), &json!(id))
    );
    assert_eq!(harness.post_as(&renewed, "/v1/token/release", "").await.status, 204);
    assert_eq!(standing(&harness, &all).await, [false; 4]);
}

#[tokio::test]
async fn every_revocation_level_ends_descendants_after_restart_too() {
    for (level, target, wanted) in [
        ("token", "root", [false, false, false, true]),
        ("token", "child", [true, false, false, true]),
        ("agent", "a", [false, false, false, true]),
        ("agent", "b", [true, false, false, false]),
        ("chain", "a", [true, false, false, true]),
        ("task", "t1", [false, false, false, true]),
    ] {
        let harness = Harness::new().await;
        let (a, root) = harness
            .agent(json!({"task_id": "t1", "requested_scope": ["read:data:*"]}))
            .await;
        let (b, other) = harness.agent(json!({"task_id": "t2"})).await;
        let child = delegated(&harness, &root, &b).await;
        let grandchild = delegated(&harness, &child, &a).await;
        let jti = |token: &str| text(&claims(token), "jti");
        let target = match (level, target) {
            ("token", "root") => jti(&root),
            ("token", _) => jti(&child),
            ("task", task) => task.to_owned(),
            (_, "a") => a.clone(),
            _ => b.clone(),
        };
        revoke(&harness, level, &target).await;
        let tokens = [&*root, &*child, &*grandchild, &*other];
        assert_eq!(standing(&harness, &tokens).await, wanted, "{level} {target}");
        let harness = harness.restart(&[]).await;
        assert_eq!(
            standing(&harness, &tokens).await,
            wanted,
            "{level} {target} after a restart"
        );
    }
}

#[tokio::test]
async fn nothing_is_delegated_to_an_agent_that_a_person_revoked() {
    let harness = Harness::new().await;
    let (_, token) = agent(&harness, "read:data:*").await;
    let (revoked, _) = agent(&harness, "read:data:x").await;
    let (released, its) = agent(&harness, "read:data:x").await;
    revoke(&harness, "agent", &revoked).await;
    harness.post_as(&its, "/v1/token/release", "").await;
    let harness = harness.restart(&[]).await;
    delegate(&harness, &token, &revoked, "read:data:x", json!({}))
        .await
        .refused(404, "not_found", "delegate agent not found");
    // One that gave its own token back is registered all the same.
    delegate(&harness, &token, &released, "read:data:x", json!({}))
        .await
        .ok();
}

#[tokio::test]
async fn a_token_issued_under_a_revocation_stays_dead_after_pruning() {
    let harness = Harness::with(&[("AA_MAX_TTL", "100")]).await;
    let (a, root) = harness
        .agent(json!({"task_id": "t1", "requested_scope": ["read:data:*"]}))
        .await;
    revoke(&harness, "task", "t2").await;
    revoke(&harness, "chain", &a).await;
    harness.clock.advance(50);
    let (_, born) = harness.agent(json!({"task_id": "t2"})).await;
    let child = delegated(&harness, &root, &a).await;
    assert_eq!(standing(&harness, &[&born, &child, &root]).await, [false, false, true]);
    harness.clock.advance(60);
    agentwrit_broker::process::housekeeping::prune(&harness.state).await;
    assert_eq!(standing(&harness, &[&born, &child]).await, [false, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_racing_a_delegation_leaves_no_living_child() {
    for _ in 0..8 {
        let harness = Harness::new().await;
        let (id, token) = agent(&harness, "read:data:*").await;
        let body = json!({"delegate_to": id, "scope": ["read:data:x"]}).to_string();
        let (made, released) = tokio::join!(
            futures_util::future::join_all((0..16).map(|_| harness.post_as(&token, "/v1/delegate", &body))),
            harness.post_as(&token, "/v1/token/release", "")
        );
        assert_eq!(released.status, 204);
        for answer in made {
            if answer.status == 200 {
                assert!(!harness.stands(&text(&answer.json(), "access_token")).await);
            } else {
                answer.refused(403, "insufficient_scope", "token has been revoked");
            }
        }
    }
}

#[tokio::test]
async fn an_old_jti_revoked_in_overlap_order_hits_nothing_else() {
    let harness = Harness::new().await;
    let (id, token) = agent(&harness, "read:data:*").await;
    let child = delegated(&harness, &token, &id).await;
    let renewed = text(&harness.renew(&child).await.ok(), "access_token");
    revoke(&harness, "token", &text(&claims(&child), "jti")).await;
    assert_eq!(
        standing(&harness, &[&child, &renewed, &token]).await,
        [false, true, true]
    );
    let login = harness
        .post("/v1/admin/auth", json!({"secret": ADMIN_SECRET}).to_string())
        .await;
    assert_eq!(login.status, 200);
}
