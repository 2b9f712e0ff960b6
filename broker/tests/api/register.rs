//! Registration: the order of checks, and what each failure burns.

use agentwrit_testkit::{Harness, claims, registration};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::busy::while_the_writer_is_busy;

#[tokio::test]
async fn an_agent_gets_its_identity_and_token() {
    let harness = Harness::new().await;
    let launch_token = harness
        .launch(json!({"allowed_scope": ["read:data:*", "write:data:a"], "max_ttl": 600}))
        .await;
    let scope = json!(["write:data:a", "read:data:x"]);
    let answer = harness
        .register(&launch_token, json!({"requested_scope": scope}))
        .await
        .ok();
    let agent = answer["agent_id"].as_str().unwrap();
    let instance = agent
        .strip_prefix("spiffe://agentwrit.local/agent/orch-1/task-1/")
        .unwrap();
    assert!(instance.len() == 16 && instance.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(answer["expires_in"], 600);
    let claims = claims(answer["access_token"].as_str().unwrap());
    assert_eq!(
        (&claims["sub"], &claims["scope"]),
        (&answer["agent_id"], &scope),
        "order kept"
    );
    assert_eq!(
        (claims["task_id"].as_str(), claims["orch_id"].as_str()),
        (Some("task-1"), Some("orch-1"))
    );
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 600);
    assert_eq!((&claims["nbf"], claims["iss"].as_str()), (&claims["iat"], Some("")));
    assert!(claims["jti"].as_str().unwrap().len() == 32 && !claims["sid"].as_str().unwrap().is_empty());

    let events = harness.events(&format!("agent_id={agent}")).await;
    let types: Vec<&str> = events
        .iter()
        .map(|event| event["event_type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["agent_registered", "token_issued"]);
    let correlation = events[0]["correlation_id"].as_str().unwrap();
    let whole = harness.events(&format!("correlation_id={correlation}")).await;
    let types: Vec<&str> = whole
        .iter()
        .map(|event| event["event_type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["launch_token_issued", "agent_registered", "token_issued"]);
}

#[tokio::test]
async fn missing_fields_are_named_and_use_up_nothing() {
    let harness = Harness::new().await;
    let launch_token = harness.launch(json!({})).await;
    let body = harness.registration(&launch_token, json!({})).await;
    harness
        .post("/v1/register", "{")
        .await
        .refused(400, "invalid_request", "malformed JSON body");
    for name in [
        "launch_token",
        "nonce",
        "public_key",
        "signature",
        "orch_id",
        "task_id",
        "requested_scope",
    ] {
        for nothing in [
            Value::Null,
            if name == "requested_scope" {
                json!([])
            } else {
                json!("")
            },
        ] {
            let mut body = body.clone();
            body[name] = nothing;
            let answer = harness.post("/v1/register", body.to_string()).await;
            answer.refused(400, "invalid_request", &format!("missing required field: {name}"));
        }
    }
    assert_eq!(harness.post("/v1/register", body.to_string()).await.status, 200);
}

#[tokio::test]
async fn bad_path_segments_are_named_and_use_up_nothing() {
    let harness = Harness::new().await;
    let launch_token = harness.launch(json!({})).await;
    let body = harness.registration(&launch_token, json!({})).await;
    for (name, value) in [
        ("orch_id", "a b"),
        ("task_id", "a/b"),
        ("orch_id", ".."),
        ("task_id", &"x".repeat(254)),
    ] {
        let mut body = body.clone();
        body[name] = json!(value);
        harness
            .post("/v1/register", body.to_string())
            .await
            .refused_like(400, "invalid_request", name);
    }
    assert_eq!(harness.post("/v1/register", body.to_string()).await.status, 200);
}

#[tokio::test]
async fn launch_tokens_must_be_known_unexpired_and_unused() {
    let harness = Harness::new().await;
    harness
        .register("nope", json!({}))
        .await
        .refused(401, "unauthorized", "launch token not found");
    assert_eq!(
        harness.last("registration_denied").await["error_kind"],
        "launch_token_unknown"
    );
    let launch_token = harness.launch(json!({})).await;
    assert_eq!(harness.register(&launch_token, json!({})).await.status, 200);
    let answer = harness.register(&launch_token, json!({})).await;
    answer.refused(401, "unauthorized", "launch token already consumed");
    let many = harness.launch(json!({"single_use": false})).await;
    for _ in 0..3 {
        assert_eq!(harness.register(&many, json!({})).await.status, 200);
    }
}

#[tokio::test]
async fn a_scope_too_wide_uses_up_no_nonce_or_launch_token() {
    let harness = Harness::new().await;
    let launch_token = harness.launch(json!({"allowed_scope": ["read:data:*"]})).await;
    let body = harness.registration(&launch_token, json!({})).await;
    for scope in [
        "write:data:x",
        "read:orders:x",
        "read:data",
        "*:*:*",
        "read:data:",
        "Read:data:x",
    ] {
        let mut body = body.clone();
        body["requested_scope"] = json!(["read:data:x", scope]);
        let answer = harness.post("/v1/register", body.to_string()).await;
        answer.refused(403, "scope_violation", "requested scope exceeds allowed scope");
        assert_eq!(
            answer.json()["hint"],
            "requested scope must be a subset of allowed scope"
        );
    }
    let event = harness.last("registration_policy_violation").await;
    assert_eq!(
        (event["task_id"].as_str(), event["orch_id"].as_str()),
        (Some("task-1"), Some("orch-1"))
    );
    assert_eq!(harness.post("/v1/register", body.to_string()).await.status, 200);
}

#[tokio::test]
async fn a_nonce_is_ours_fresh_and_used_once() {
    let harness = Harness::new().await;
    let launch_token = harness.launch(json!({"single_use": false})).await;
    let body = harness.registration(&launch_token, json!({})).await;
    let upper = body["nonce"].as_str().unwrap().to_uppercase();
    for foreign in ["ab".repeat(32), "x".to_owned(), upper] {
        let body = registration(&launch_token, &foreign, json!({}));
        let answer = harness.post("/v1/register", body.to_string()).await;
        answer.refused(401, "unauthorized", "nonce not found or expired");
    }
    assert_eq!(harness.post("/v1/register", body.to_string()).await.status, 200);
    let again = harness.post("/v1/register", body.to_string()).await;
    again.refused(401, "unauthorized", "nonce already consumed");
    let late = harness.registration(&launch_token, json!({})).await;
    harness.clock.advance(31);
    let answer = harness.post("/v1/register", late.to_string()).await;
    answer.refused(401, "unauthorized", "nonce not found or expired");
}

#[tokio::test]
async fn launch_tokens_and_nonces_expire_to_the_millisecond() {
    let harness = Harness::new().await;
    // Not at the beginning of a second.
    harness.clock.advance_millis(1);
    let launch_token = harness.launch(json!({"ttl": 5, "single_use": false})).await;
    harness.clock.advance_millis(4_999);
    assert_eq!(harness.register(&launch_token, json!({})).await.status, 200);
    let body = harness.registration(&launch_token, json!({})).await;
    harness.clock.advance_millis(1);
    harness
        .post("/v1/register", body.to_string())
        .await
        .refused(401, "unauthorized", "launch token expired");

    let launch_token = harness.launch(json!({"ttl": 60, "single_use": false})).await;
    let good = harness.registration(&launch_token, json!({})).await;
    let late = harness.registration(&launch_token, json!({})).await;
    harness.clock.advance_millis(29_999);
    assert_eq!(harness.post("/v1/register", good.to_string()).await.status, 200);
    harness.clock.advance_millis(1);
    harness
        .post("/v1/register", late.to_string())
        .await
        .refused(401, "unauthorized", "nonce not found or expired");
}

#[tokio::test]
async fn a_failed_proof_uses_up_the_nonce_not_the_launch_token() {
    let harness = Harness::new().await;
    let launch_token = harness.launch(json!({})).await;
    let mut identity = [0_u8; 32];
    identity[0] = 1;
    let mut no_point = [0_u8; 32];
    no_point[0] = 2;
    let table = [
        (
            "public_key",
            "***".to_owned(),
            "invalid Ed25519 public key: base64 decode failed",
        ),
        (
            "public_key",
            STANDARD.encode([1; 31]),
            "invalid Ed25519 public key: wrong key size",
        ),
        (
            "public_key",
            STANDARD.encode(identity),
            "invalid Ed25519 public key: weak key",
        ),
        (
            "signature",
            "***".to_owned(),
            "nonce signature verification failed: base64 decode failed",
        ),
        // y = 2 has no x on the curve: the signature's matter, not the key's.
        (
            "public_key",
            STANDARD.encode(no_point),
            "nonce signature verification failed",
        ),
        (
            "signature",
            STANDARD.encode([1; 64]),
            "nonce signature verification failed",
        ),
        (
            "signature",
            STANDARD.encode([1; 3]),
            "nonce signature verification failed",
        ),
    ];
    for (name, value, detail) in table {
        let good = harness.registration(&launch_token, json!({})).await;
        let mut bad = good.clone();
        bad[name] = json!(value);
        harness
            .post("/v1/register", bad.to_string())
            .await
            .refused(401, "unauthorized", detail);
        assert_eq!(harness.last("registration_denied").await["outcome"], "denied");
        let answer = harness.post("/v1/register", good.to_string()).await;
        answer.refused(401, "unauthorized", "nonce already consumed");
    }
    let mut both = harness.registration(&launch_token, json!({})).await;
    both["public_key"] = json!(STANDARD.encode(no_point));
    both["signature"] = json!("***");
    let answer = harness.post("/v1/register", both.to_string()).await;
    answer.refused(
        401,
        "unauthorized",
        "nonce signature verification failed: base64 decode failed",
    );
    assert_eq!(harness.register(&launch_token, json!({})).await.status, 200);
}

#[tokio::test]
async fn requested_ttl_only_shortens_and_the_ceiling_clamps() {
    let harness = Harness::with(&[("AA_MAX_TTL", "500"), ("AA_DEFAULT_TTL", "400")]).await;
    let table = [
        (json!({"max_ttl": 100}), json!({"requested_ttl": 50}), 50),
        (json!({"max_ttl": 100}), json!({"requested_ttl": 1000}), 100),
        (json!({"max_ttl": 100}), json!({"requested_ttl": 0}), 100),
        (json!({"max_ttl": 100}), json!({"requested_ttl": -5}), 100),
        (json!({"max_ttl": 100_000}), json!({}), 500),
        (json!({}), json!({}), 400),
        (json!({"max_ttl": -1}), json!({}), 400),
    ];
    for (launch, request, wanted) in table {
        let launch_token = harness.launch(launch).await;
        assert_eq!(
            harness.register(&launch_token, request).await.ok()["expires_in"],
            wanted
        );
    }
}

#[tokio::test]
async fn launch_tokens_of_people_cannot_name_attested_agents() {
    let harness = Harness::new().await;
    let launch_token = harness.launch(json!({})).await;
    let answer = harness
        .register(&launch_token, json!({"orch_id": "k8s.shop.orders"}))
        .await;
    assert_eq!((answer.problem().0, answer.problem().1.as_str()), (403, "forbidden"));
    assert_eq!(harness.last("registration_denied").await["orch_id"], "k8s.shop.orders");
    assert_eq!(
        harness.register(&launch_token, json!({})).await.status,
        200,
        "nothing burned"
    );
}

#[tokio::test]
async fn registrations_are_limited_per_source() {
    let harness = Harness::with(&[("AA_REGISTER_RATE", "1")]).await;
    for _ in 0..2 {
        assert_eq!(harness.post("/v1/register", "{").await.status, 400);
    }
    harness
        .post("/v1/register", "{")
        .await
        .refused_like(429, "rate_limited", "rate limit exceeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_parallel_users_of_one_launch_token_exactly_one_wins() {
    let harness = Harness::new().await;
    let launch_token = harness.launch(json!({})).await;
    let mut bodies = Vec::new();
    for _ in 0..64 {
        bodies.push(harness.registration(&launch_token, json!({})).await.to_string());
    }
    let answers = futures_util::future::join_all(bodies.iter().map(|body| harness.post("/v1/register", body))).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!((won.len(), lost.len()), (1, 63));
    for answer in lost {
        answer.refused(401, "unauthorized", "launch token already consumed");
    }
    assert_eq!(harness.events("event_type=agent_registered").await.len(), 1);
}

#[tokio::test]
async fn a_token_that_is_issued_is_short_enough_to_be_used() {
    let harness = Harness::new().await;
    let launch_token = harness.launch(json!({})).await;
    let scopes = |count: usize| vec![format!("read:data:{}", "\u{1}".repeat(1000)); count];
    harness
        .register(&launch_token, json!({"requested_scope": scopes(6)}))
        .await
        .refused_like(400, "invalid_request", "requested_scope");
    let answer = harness
        .register(&launch_token, json!({"requested_scope": scopes(5)}))
        .await
        .ok();
    let token = answer["access_token"].as_str().unwrap();
    assert!(harness.stands(token).await);
    harness.renew(token).await.ok();
}

#[tokio::test]
async fn strangers_are_refused_while_the_one_writer_is_busy() {
    let harness = Harness::new().await;
    let consumed = harness.launch(json!({})).await;
    harness.register(&consumed, json!({})).await.ok();
    let expired = harness.launch(json!({"ttl": 5})).await;
    harness.clock.advance(6);
    let strangers = [
        ("ab".repeat(32), "launch token not found", "launch_token_unknown"),
        ("Ab".repeat(32), "launch token not found", "launch_token_unknown"),
        (
            "no launch token".to_owned(),
            "launch token not found",
            "launch_token_unknown",
        ),
        (expired, "launch token expired", "launch_token_expired"),
        (consumed, "launch token already consumed", "launch_token_consumed"),
    ];
    while_the_writer_is_busy(&harness, async {
        for (launch_token, detail, _) in &strangers {
            let answer = harness.register(launch_token, json!({})).await;
            answer.refused(401, "unauthorized", detail);
        }
    })
    .await;
    let told: Vec<Value> = harness.events("event_type=registration_denied").await;
    let kinds: Vec<&str> = told.iter().map(|event| event["error_kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, strangers.map(|(_, _, kind)| kind));
    let failures = harness.state.metrics.registrations.with_label_values(&["failure"]);
    assert_eq!(failures.get(), 5);
}
