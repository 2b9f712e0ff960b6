//! Delegation: `docs/wire-contract.md` §10, and what the session rules promise.

use agentwrit_testkit::{ADMIN_SECRET, Answer, Harness, claims};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// An agent with this scope among what `read:data:*` covers, and a token for 300 s.
async fn agent(harness: &Harness, scope: &str) -> (String, String) {
    harness.agent(json!({"requested_scope": [scope]})).await
}

async fn delegate(harness: &Harness, token: &str, to: &str, scope: &str, changes: Value) -> Answer {
    let mut body = json!({"delegate_to": to, "scope": [scope]});
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    harness.post_as(token, "/v1/delegate", body.to_string()).await
}

fn text(answer: &Value, name: &str) -> String {
    answer[name].as_str().unwrap().to_owned()
}

/// A delegated token of `read:data:x`.
async fn delegated(harness: &Harness, token: &str, to: &str) -> String {
    let answer = delegate(harness, token, to, "read:data:x", json!({"ttl": 200})).await;
    text(&answer.ok(), "access_token")
}

async fn revoke(harness: &Harness, level: &str, target: &str) {
    let admin = harness.admin().await;
    let body = json!({"level": level, "target": target}).to_string();
    harness.post_as(&admin, "/v1/revoke", body).await.ok();
}

async fn standing(harness: &Harness, tokens: &[&str]) -> Vec<bool> {
    let mut standing = Vec::new();
    for token in tokens {
        standing.push(harness.stands(token).await);
    }
    standing
}

#[tokio::test]
async fn a_delegated_token_carries_the_chain_and_the_callers_task() {
    let harness = Harness::new().await;
    let (from, token) = agent(&harness, "read:data:*").await;
    let (to, _) = agent(&harness, "read:data:y").await;
    let answer = delegate(&harness, &token, &to, "read:data:x", json!({})).await.ok();
    let members: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(members.len(), 3, "{members:?}");
    assert_eq!(answer["expires_in"], 60);
    let (parent, child) = (claims(&token), claims(&text(&answer, "access_token")));
    for same in ["iss", "sid", "task_id", "orch_id"] {
        assert_eq!(parent[same], child[same], "{same}");
    }
    assert_eq!((&child["sub"], &child["scope"]), (&json!(to), &json!(["read:data:x"])));
    assert_eq!(child["exp"].as_i64().unwrap() - child["iat"].as_i64().unwrap(), 60);
    assert_eq!(child["delegation_chain"], answer["delegation_chain"]);
    let record = &answer["delegation_chain"][0];
    assert_eq!(
        (&record["agent"], &record["scope"]),
        (&json!(from), &json!(["read:data:*"]))
    );
    // The record's signature verifies under the published key, from the contract's words alone.
    let signed = format!("{from}|read:data:*|{}", record["delegated_at"].as_str().unwrap());
    assert!(
        harness
            .state
            .tokens
            .keys
            .verify_text(&signed, record["signature"].as_str().unwrap())
    );
    let chain = json_in_order(&answer["delegation_chain"]);
    assert_eq!(child["chain_hash"], hex::encode(Sha256::digest(chain.as_bytes())));
    let event = harness.last("delegation_created").await;
    assert_eq!(
        (&event["agent_id"], &event["task_id"], &event["orch_id"]),
        (&json!(to), &json!("task-1"), &json!("orch-1"))
    );
    assert_eq!(
        (&event["deleg_depth"], &event["deleg_chain_hash"]),
        (&json!(1), &child["chain_hash"])
    );
    assert_eq!((&event["actor"], &event["outcome"]), (&json!(from), &json!("success")));
    assert_eq!(
        harness.events("event_type=token_issued").await.len(),
        2,
        "registrations only"
    );
}

/// A chain as the contract writes it.
fn json_in_order(chain: &Value) -> String {
    let record = |record: &Value| {
        format!(
            r#"{{"agent":{},"scope":{},"delegated_at":{},"signature":{}}}"#,
            record["agent"], record["scope"], record["delegated_at"], record["signature"]
        )
    };
    let records: Vec<String> = chain.as_array().unwrap().iter().map(record).collect();
    format!("[{}]", records.join(","))
}

#[tokio::test]
async fn a_delegation_is_refused_in_the_contracts_order() {
    let harness = Harness::new().await;
    let (to, token) = agent(&harness, "read:data:x").await;
    let table = [
        ("{", 400, "invalid_request", "malformed JSON body"),
        ("{}", 400, "invalid_request", "delegate_to is required"),
        (
            r#"{"delegate_to":"a"}"#,
            400,
            "invalid_request",
            "scope is required and must not be empty",
        ),
        (
            r#"{"delegate_to":"a","scope":[]}"#,
            400,
            "invalid_request",
            "scope is required and must not be empty",
        ),
        (
            r#"{"delegate_to":"","scope":["a"]}"#,
            400,
            "invalid_request",
            "delegate_to is required",
        ),
        (
            r#"{"delegate_to":5,"scope":["a"]}"#,
            400,
            "invalid_request",
            "malformed JSON body",
        ),
        (
            r#"{"delegate_to":"a","scope":["read:data:*"]}"#,
            403,
            "scope_violation",
            "delegated scope exceeds delegator scope",
        ),
        (
            r#"{"delegate_to":"a","scope":["malformed"]}"#,
            403,
            "scope_violation",
            "delegated scope exceeds delegator scope",
        ),
        (
            r#"{"delegate_to":"a","scope":["read:data:x"]}"#,
            404,
            "not_found",
            "delegate agent not found",
        ),
    ];
    for (body, status, code, detail) in table {
        harness
            .post_as(&token, "/v1/delegate", body)
            .await
            .refused(status, code, detail);
    }
    let kinds: Vec<Value> = harness
        .events("event_type=delegation_attenuation_violation")
        .await
        .iter()
        .map(|event| event["error_kind"].clone())
        .collect();
    assert_eq!(
        kinds,
        [
            "delegation_scope_exceeded",
            "delegation_scope_exceeded",
            "delegate_unknown"
        ]
    );
    assert!(harness.stands(&token).await, "refusals change nothing");
    let admin = harness.admin().await;
    harness
        .post_as(
            &admin,
            "/v1/delegate",
            json!({"delegate_to": to, "scope": ["admin:audit:*"]}).to_string(),
        )
        .await
        .refused_like(403, "insufficient_scope", "agent");
    harness
        .post("/v1/delegate", "{}")
        .await
        .refused(401, "unauthorized", "missing authorization header");
}

#[tokio::test]
async fn five_hops_are_made_and_the_sixth_is_not() {
    let harness = Harness::new().await;
    let (id, mut token) = agent(&harness, "read:data:*").await;
    for depth in 1..=5 {
        let answer = delegate(&harness, &token, &id, "read:data:*", json!({})).await.ok();
        assert_eq!(answer["delegation_chain"].as_array().unwrap().len(), depth);
        token = text(&answer, "access_token");
        assert!(harness.stands(&token).await, "{depth}");
    }
    // The depth counts before the scope.
    delegate(&harness, &token, "nobody", "write:data:x", json!({}))
        .await
        .refused(403, "scope_violation", "delegation depth limit exceeded");
    let event = harness.last("delegation_attenuation_violation").await;
    assert_eq!(
        (&event["deleg_depth"], &event["error_kind"]),
        (&json!(5), &json!("delegation_too_deep"))
    );
}

#[tokio::test]
async fn scopes_narrow_hop_by_hop_and_never_widen_again() {
    let harness = Harness::new().await;
    let (id, token) = agent(&harness, "read:data:*").await;
    let narrow = delegated(&harness, &token, &id).await;
    delegate(&harness, &narrow, &id, "read:data:*", json!({}))
        .await
        .refused_like(403, "scope_violation", "exceeds");
    delegate(&harness, &narrow, &id, "read:data:x", json!({})).await.ok();
}

#[tokio::test]
async fn a_delegated_token_never_outlives_the_delegating_one_however_often_it_is_renewed() {
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
async fn every_revocation_level_takes_the_descendants_along_and_survives_a_restart() {
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
async fn a_token_made_under_a_revocation_stays_dead_when_the_revocation_is_forgotten() {
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
async fn a_delegation_and_the_release_of_its_delegator_never_leave_a_living_child() {
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
async fn chains_that_would_be_too_long_to_send_are_refused() {
    let harness = Harness::new().await;
    let scope: Vec<String> = (0..900).map(|n| format!("read:data:item-{n:06}")).collect();
    let (id, token) = harness.agent(json!({"requested_scope": scope})).await;
    let body = json!({"delegate_to": id, "scope": scope}).to_string();
    let child = text(
        &harness.post_as(&token, "/v1/delegate", &body).await.ok(),
        "access_token",
    );
    harness
        .post_as(&child, "/v1/delegate", &body)
        .await
        .refused_like(400, "invalid_request", "ask for fewer scopes");
    assert!(harness.stands(&child).await);
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
