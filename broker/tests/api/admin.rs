//! Admin login and launch tokens.

use agentwrit_testkit::{ADMIN_SECRET, Harness, claims};
use serde_json::{Value, json};

const AUTH: &str = "/v1/admin/auth";
const LAUNCH: &str = "/v1/admin/launch-tokens";

#[tokio::test]
async fn the_secret_is_traded_for_an_admin_token() {
    let harness = Harness::with(&[("AA_ADMIN_TOKEN_TTL", "120")]).await;
    let answer = harness
        .post(AUTH, json!({"secret": ADMIN_SECRET}).to_string())
        .await
        .ok();
    assert_eq!(
        (answer["expires_in"].as_i64(), answer["token_type"].as_str()),
        (Some(120), Some("Bearer"))
    );
    let claims = claims(answer["access_token"].as_str().unwrap());
    assert_eq!(
        claims["scope"],
        json!(["admin:launch-tokens:*", "admin:revoke:*", "admin:audit:*"])
    );
    assert_eq!(claims["sub"], "admin");
    for absent in ["sid", "task_id", "orch_id", "aud"] {
        assert!(claims.get(absent).is_none(), "{absent}");
    }
}

#[tokio::test]
async fn logins_are_refused_in_the_contracts_order() {
    let harness = Harness::new().await;
    for body in [
        "",
        "{",
        "[]",
        "{\"secret\":5}",
        &format!("{{\"secret\":\"{ADMIN_SECRET}\"}} x"),
    ] {
        harness.clock.advance(1);
        harness
            .post(AUTH, body)
            .await
            .refused(400, "invalid_request", "malformed JSON body");
    }
    harness.clock.advance(5);
    for body in [
        json!({"client_id": "x", "secret": ADMIN_SECRET}).to_string(),
        json!({"client_secret": "x"}).to_string(),
        // Before the rest of the body is looked at.
        json!({"client_id": "x", "secret": 5}).to_string(),
        json!({"client_id": "x", "client_secret": 5}).to_string(),
        r#"{"client_id":"x"} x"#.to_owned(),
    ] {
        harness
            .post(AUTH, body)
            .await
            .refused_like(400, "invalid_request", "{\"secret\"");
    }
    for body in [Value::Null, json!({}), json!({"secret": ""}), json!({"client_id": ""})] {
        harness
            .post(AUTH, body.to_string())
            .await
            .refused(400, "invalid_request", "secret is required");
    }
    harness.clock.advance(5);
    for wrong in [
        "x".to_owned(),
        format!("{ADMIN_SECRET} "),
        ADMIN_SECRET.to_uppercase(),
        "x".repeat(500_000),
    ] {
        harness.post(AUTH, json!({"secret": wrong}).to_string()).await.refused(
            401,
            "unauthorized",
            "invalid credentials",
        );
    }
    let everybodys = json!({"secret": "change-me-in-production"}).to_string();
    let answer = harness.post(AUTH, everybodys).await;
    answer.refused(401, "unauthorized", "admin secret does not meet security requirements");
    let events = harness.events("event_type=admin_auth_failed").await;
    assert_eq!(events.len(), 5);
    assert!(
        events
            .iter()
            .all(|event| event["outcome"] == "denied" && event["source"] == "127.0.0.1")
    );
    let metrics = harness.get("/v1/metrics").await.text;
    assert!(metrics.contains("agentwrit_admin_auth_total{status=\"failure\"} 5"));
}

#[tokio::test]
async fn logins_are_limited_before_anything_else() {
    let harness = Harness::new().await;
    for _ in 0..10 {
        assert_eq!(harness.post(AUTH, "{").await.status, 400);
    }
    let answer = harness.post(AUTH, json!({"secret": ADMIN_SECRET}).to_string()).await;
    answer.refused(429, "rate_limited", "rate limit exceeded, try again later");
    assert_eq!(answer.header("retry-after"), "1");
    for _ in 0..5 {
        assert_eq!(harness.post(AUTH, "{").await.status, 429);
    }
    harness.clock.advance_millis(200);
    assert_eq!(
        harness
            .post(AUTH, json!({"secret": ADMIN_SECRET}).to_string())
            .await
            .status,
        200
    );
    harness.clock.advance(9);
    assert_eq!(
        harness.events("event_type=app_rate_limited").await.len(),
        1,
        "one in ten seconds"
    );
    let hit = harness.last("app_rate_limited").await;
    assert_eq!(
        (
            hit["resource"].as_str(),
            hit["source"].as_str(),
            hit["outcome"].as_str()
        ),
        (Some(AUTH), Some("127.0.0.1"), Some("denied"))
    );
}

#[tokio::test]
async fn login_can_be_off() {
    let harness = Harness::with(&[("AA_ADMIN_AUTH", "off"), ("AA_ADMIN_SECRET", "")]).await;
    let answer = harness.post(AUTH, json!({"secret": ADMIN_SECRET}).to_string()).await;
    assert_eq!((answer.problem().0, answer.problem().1.as_str()), (403, "forbidden"));
}

#[tokio::test]
async fn a_secret_in_the_config_file_follows_the_file() {
    let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let path = folder.path().join("config");
    std::fs::write(
        &path,
        "# comment\nMODE=production\nADMIN_SECRET=the-first-good-secret\n",
    )
    .unwrap();
    let settings = [("AA_CONFIG_PATH", "{folder}/config")];
    let mut changes: Vec<(&str, &str)> = settings.to_vec();
    changes.push(("AA_ADMIN_SECRET", "{unset}"));
    let harness = Harness::in_folder(folder, &changes).await.unwrap();
    let login = |secret: &str| json!({"secret": secret}).to_string();
    assert_eq!(harness.post(AUTH, login("the-first-good-secret")).await.status, 200);
    std::fs::write(&path, "ADMIN_SECRET=the-second-good-secret\n").unwrap();
    assert_eq!(harness.post(AUTH, login("the-second-good-secret")).await.status, 200);
    assert_eq!(harness.post(AUTH, login("the-first-good-secret")).await.status, 401);
    std::fs::write(&path, "ADMIN_SECRET=weak\n").unwrap();
    assert_eq!(harness.post(AUTH, login("weak")).await.status, 401);
}

#[tokio::test]
async fn a_launch_token_says_what_it_allows() {
    let harness = Harness::new().await;
    let admin = harness.admin().await;
    let body =
        json!({"agent_name": "a/b", "allowed_scope": ["read:data:*", "write:x:y:z"], "max_ttl": 200_000, "ttl": 60});
    let answer = harness.post_as(&admin, LAUNCH, body.to_string()).await;
    assert_eq!(answer.status, 201);
    let answer = answer.json();
    assert_eq!(answer["launch_token"].as_str().unwrap().len(), 64);
    assert_eq!(answer["expires_at"], "2027-01-15T08:01:00Z");
    assert_eq!(
        answer["policy"],
        json!({"allowed_scope": ["read:data:*", "write:x:y:z"], "max_ttl": 86400})
    );
    let event = harness.last("launch_token_issued").await;
    assert!(event["detail"].as_str().unwrap().contains("a/b") && event.get("agent_id").is_none());
    assert!(
        !event.to_string().contains(answer["launch_token"].as_str().unwrap()),
        "never in the trail"
    );
}

#[tokio::test]
async fn launch_tokens_are_refused_in_the_contracts_order() {
    let harness = Harness::new().await;
    let admin = harness.admin().await;
    let good = json!({"agent_name": "a", "allowed_scope": ["read:data:*"]});
    let table = [
        (
            json!({"allowed_scope": ["read:data"], "agent_name": null}),
            400,
            "invalid_scope_format",
            "read:data",
        ),
        (
            json!({"allowed_scope": ["admin:revoke:*"], "agent_name": ""}),
            403,
            "forbidden",
            "admin:revoke:*",
        ),
        (json!({"allowed_scope": ["app:x:y"]}), 403, "forbidden", "app:x:y"),
        (
            json!({"agent_name": "", "allowed_scope": []}),
            400,
            "invalid_request",
            "agent_name is required",
        ),
        (
            json!({"allowed_scope": []}),
            400,
            "invalid_request",
            "allowed_scope must not be empty",
        ),
        (
            json!({"allowed_scope": null}),
            400,
            "invalid_request",
            "allowed_scope must not be empty",
        ),
        (json!({"ttl": 86_401}), 400, "invalid_ttl", "86400"),
        (json!({"ttl": i64::MAX}), 400, "invalid_ttl", "86400"),
        (json!({"ttl": "30"}), 400, "invalid_request", "malformed JSON body"),
    ];
    for (changes, status, code, part) in table {
        let mut body = good.clone();
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        harness
            .post_as(&admin, LAUNCH, body.to_string())
            .await
            .refused_like(status, code, part);
    }
    let denied = harness.events("event_type=launch_token_denied").await;
    assert_eq!(denied.len(), 8);
    assert!(denied.iter().all(|event| event["agent_id"] == "admin"));
    for ttl in [0, -1] {
        let mut body = good.clone();
        body["ttl"] = json!(ttl);
        body["max_ttl"] = json!(i64::MAX);
        let answer = harness.post_as(&admin, LAUNCH, body.to_string()).await.ok();
        assert_eq!(answer["expires_at"], "2027-01-15T08:00:30Z");
    }
    let (_, agent) = harness.agent(json!({})).await;
    let answer = harness.post_as(&agent, LAUNCH, good.to_string()).await;
    answer.refused(
        403,
        "insufficient_scope",
        "token lacks required scope: admin:launch-tokens:*",
    );
}

#[tokio::test]
async fn seed_tokens_keep_to_the_ceiling_of_lifetimes() {
    let harness = Harness::with(&[("AA_MAX_TTL", "60")]).await;
    let (_, token) = agentwrit_broker::process::seed::seed(&harness.state).await.unwrap();
    let claims = claims(token.expose());
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        60,
        "{claims}"
    );
}

#[tokio::test]
async fn long_texts_of_callers_are_cut_in_answers_and_events() {
    let harness = Harness::new().await;
    let admin = harness.admin().await;
    let launch = async |name: &str, scope: &str| {
        let body = json!({"agent_name": name, "allowed_scope": [scope]}).to_string();
        harness.post_as(&admin, LAUNCH, body).await
    };
    launch(&"é".repeat(600_000 / 2), "read:data:*").await.refused(
        400,
        "invalid_request",
        "agent_name of 300000 characters is too long: it must be at most 16384",
    );
    let denied = harness.last("launch_token_denied").await;
    assert_eq!(denied["error_kind"], "agent_name_length");
    launch(&"é".repeat(16_384), "read:data:*").await.ok();
    let scope = |length: usize| format!("read{}", "x".repeat(length - 4));
    for (length, shown) in [(256, scope(256)), (257, scope(256) + "…"), (30_000, scope(256) + "…")] {
        launch("a", &scope(length)).await.refused(
            400,
            "invalid_scope_format",
            &format!("scope {shown:?} is not of the form action:resource:identifier with three non-empty parts"),
        );
    }
    let reserved = launch("a", &format!("admin:{}:x", "é".repeat(5000))).await;
    assert!(reserved.problem().2.len() < 600, "{reserved:?}");
    let revoke = async |level: &str, target: String| {
        let body = json!({"level": level, "target": target}).to_string();
        harness.post_as(&admin, "/v1/revoke", body).await
    };
    revoke("task", "x".repeat(600_000)).await.refused(
        400,
        "invalid_request",
        "target of 600000 characters is too long: it must be at most 16384",
    );
    revoke("task", "x".repeat(16_384)).await.ok();
    let stranger = format!("/v1/admin/apps/{}", "x".repeat(60_000));
    assert_eq!(harness.get(&stranger).await.status, 401);
    let refused = harness.last("token_auth_failed").await;
    assert_eq!(refused["resource"], format!("{}…", &stranger[..256]));
    for event in harness.events("").await {
        assert!(event.to_string().len() < 40_000, "{}", event["event_type"]);
    }
}
