//! Delegation: `docs/wire-contract.md` §10, and what the session rules promise.

mod ends;

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
