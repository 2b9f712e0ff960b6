//! Login of apps: `docs/wire-contract.md` §12.3 and §16.1.

use agentwrit_testkit::{App, Harness, claims};
use std::sync::Arc;

use serde_json::{Value, json};

const AUTH: &str = "/v1/app/auth";

fn credentials(client_id: &str, secret: &str) -> String {
    json!({"client_id": client_id, "client_secret": secret}).to_string()
}

#[tokio::test]
async fn credentials_are_traded_for_a_token_of_the_apps_own_life() {
    let harness = Harness::with(&[("AA_ISSUER", "https://broker.example"), ("AA_AUDIENCE", "orders")]).await;
    let app = harness.app("shop", json!({"token_ttl": 120})).await;
    let answer = harness.app_auth(&app).await;
    assert_eq!(answer.status, 200);
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(
        answer.text,
        format!(
            "{{\"access_token\":\"{token}\",\"expires_in\":120,\"token_type\":\"Bearer\",\
             \"scopes\":[\"app:launch-tokens:*\",\"app:agents:*\",\"app:audit:read\"]}}\n"
        )
    );
    let claims = claims(&token);
    assert_eq!(
        (&claims["sub"], &claims["iss"], &claims["aud"]),
        (
            &json!(format!("app:{}", app.id)),
            &json!("https://broker.example"),
            &json!(["orders"])
        )
    );
    assert_eq!(
        claims["scope"],
        json!(["app:launch-tokens:*", "app:agents:*", "app:audit:read"])
    );
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 120);
    assert_eq!(claims["nbf"], claims["iat"]);
    for absent in ["sid", "task_id", "orch_id", "delegation_chain", "chain_hash"] {
        assert!(claims.get(absent).is_none(), "{absent}");
    }
    let event = harness.last("app_authenticated").await;
    assert_eq!((&event["outcome"], event.get("agent_id")), (&json!("success"), None));
    assert!(event["detail"].as_str().unwrap().contains(&app.id), "{event}");
    let metrics = harness.get("/v1/metrics").await.text;
    assert!(
        metrics.contains("agentwrit_tokens_issued_total{scope=\"app:launch-tokens:*\"} 1"),
        "{metrics}"
    );
    assert!(metrics.contains("request_duration_seconds_count{endpoint=\"app_auth\"} 1"));

    harness.clock.advance(120);
    assert!(harness.stands(&token).await, "good in its last second");
    harness.clock.advance(1);
    assert!(!harness.stands(&token).await);
}

#[tokio::test]
async fn app_tokens_keep_to_the_ceiling_and_follow_changes() {
    let harness = Harness::with(&[("AA_MAX_TTL", "300")]).await;
    let app = harness.app("shop", json!({"token_ttl": 86_400})).await;
    assert_eq!(harness.app_auth(&app).await.ok()["expires_in"], 300);
    let admin = harness.admin().await;
    let place = format!("/v1/admin/apps/{}", app.id);
    harness
        .send_as(&admin, "PUT", &place, json!({"token_ttl": 90}).to_string())
        .await
        .ok();
    assert_eq!(harness.app_auth(&app).await.ok()["expires_in"], 90);
}

#[tokio::test]
async fn bodies_are_read_as_everywhere() {
    let harness = Harness::new().await;
    let refused = [
        ("", "malformed JSON body"),
        ("{", "malformed JSON body"),
        ("[]", "malformed JSON body"),
        ("{\"client_id\":\"a\",\"client_secret\":5}", "malformed JSON body"),
        ("{\"client_id\":[],\"client_secret\":\"a\"}", "malformed JSON body"),
        ("null", "client_id and client_secret are required"),
        ("{}", "client_id and client_secret are required"),
        ("{\"client_id\":\"a\"}", "client_id and client_secret are required"),
        (
            "{\"client_id\":\"a\",\"client_secret\":\"\"}",
            "client_id and client_secret are required",
        ),
        (
            "{\"client_id\":null,\"client_secret\":\"a\"}",
            "client_id and client_secret are required",
        ),
        (
            "{\"client_id\":\"\",\"client_secret\":\"a\"}",
            "client_id and client_secret are required",
        ),
    ];
    for (body, detail) in refused {
        harness.clock.advance(6);
        harness.post(AUTH, body).await.refused(400, "invalid_request", detail);
    }
    assert!(
        harness.events("event_type=app_auth_failed").await.is_empty(),
        "not audited"
    );
    let app = harness.app("shop", json!({})).await;
    let trailing = format!("{} and more", credentials(&app.client_id, &app.secret));
    assert_eq!(harness.post(AUTH, trailing).await.status, 200);
}

#[tokio::test]
async fn every_refusal_looks_alike_and_the_trail_has_the_reason() {
    let harness = Harness::new().await;
    let admin = harness.admin().await;
    let (app, gone) = (
        harness.app("shop", json!({})).await,
        harness.app("gone", json!({})).await,
    );
    harness
        .send_as(&admin, "DELETE", &format!("/v1/admin/apps/{}", gone.id), "")
        .await
        .ok();
    let mut long = app.secret.clone();
    long.push_str("00000000ff");
    let table = [
        (app.client_id.as_str(), "wrong", "wrong_credentials"),
        (&app.client_id, &gone.secret, "wrong_credentials"),
        (&app.client_id, &long, "wrong_credentials"),
        ("or-0123456789ab", &app.secret, "unknown_client"),
        (&app.id, &app.secret, "unknown_client"),
        (&gone.client_id, &gone.secret, "inactive_app"),
    ];
    for (client, secret, kind) in table {
        let answer = harness.post(AUTH, credentials(client, secret)).await;
        answer.refused(401, "unauthorized", "Authentication failed");
        let event = harness.last("app_auth_failed").await;
        assert_eq!(
            (&event["error_kind"], &event["outcome"]),
            (&json!(kind), &json!("denied")),
            "{client}"
        );
        for id in ["agent_id", "task_id", "orch_id"] {
            assert!(event.get(id).is_none(), "{event}");
        }
    }
    assert_eq!(harness.events("event_type=app_auth_failed").await.len(), table.len());
}

#[tokio::test]
async fn a_client_has_ten_logins_a_minute_and_three_at_once() {
    let harness = Harness::new().await;
    let (app, other) = (
        harness.app("shop", json!({})).await,
        harness.app("other", json!({})).await,
    );
    let statuses = async |app: &App, times: usize| {
        let mut statuses = Vec::new();
        for _ in 0..times {
            statuses.push(harness.app_auth(app).await.status);
        }
        statuses
    };
    assert_eq!(statuses(&app, 4).await, [200, 200, 200, 429]);
    let answer = harness.app_auth(&app).await;
    answer.refused(429, "rate_limited", "rate limit exceeded, try again later");
    assert_eq!(answer.header("retry-after"), "60");
    // Neither bytes behind the body nor an escaped letter makes it another client.
    let trailing = format!("{} x", credentials(&app.client_id, &app.secret));
    assert_eq!(harness.post(AUTH, trailing).await.status, 429);
    let escaped = credentials(&app.client_id, &app.secret).replace("sh-", "\\u0073h-");
    assert_eq!(harness.post(AUTH, escaped).await.status, 429);
    let double = format!(
        "{{\"client_id\":\"somebody\",{}",
        &credentials(&app.client_id, &app.secret)[1..]
    );
    assert_eq!(harness.post(AUTH, double).await.status, 429, "the last member counts");
    let missing = json!({"client_id": app.client_id}).to_string();
    assert_eq!(
        harness.post(AUTH, missing).await.status,
        429,
        "counted before the body is looked at"
    );
    assert_eq!(statuses(&other, 3).await, [200, 200, 200]);
    harness.clock.advance(6);
    assert_eq!(statuses(&app, 2).await, [200, 429]);

    let events = harness.events("event_type=app_rate_limited").await;
    assert_eq!(events.len(), 1, "one of a source and endpoint in a while: {events:?}");
    assert_eq!(
        (&events[0]["outcome"], &events[0]["source"]),
        (&json!("denied"), &json!("127.0.0.1"))
    );
}

#[tokio::test]
async fn whoever_names_no_client_is_limited_by_address() {
    let harness = Harness::with(&[("AA_TRUSTED_PROXIES", "127.0.0.0/8")]).await;
    let from = async |address: &str, body: &str| {
        let answer = harness
            .send("POST", AUTH, &[("x-forwarded-for", address)], body.to_owned())
            .await;
        (answer.status, answer.header("retry-after").to_owned())
    };
    let mut seen = Vec::new();
    for body in [
        "{",
        "{}",
        "{\"client_id\":5,\"client_secret\":\"x\"}",
        "{\"client_id\":\"\"}",
    ] {
        seen.push(from("203.0.113.1", body).await.0);
    }
    assert_eq!(seen, [400, 400, 400, 429]);
    assert_eq!(from("203.0.113.1", "{").await, (429, "60".to_owned()));
    assert_eq!(from("203.0.113.2", "{").await.0, 400);
    assert_eq!(
        from("203.0.113.1", "{\"client_id\":\"a\"}").await.0,
        400,
        "another bucket"
    );
}

#[tokio::test]
async fn one_address_cant_try_client_after_client() {
    let harness = Harness::with(&[("AA_TRUSTED_PROXIES", "127.0.0.0/8")]).await;
    let from = async |address: &str, n: usize| {
        let body = json!({"client_id": format!("or-{n:012}")}).to_string();
        let answer = harness.send("POST", AUTH, &[("x-forwarded-for", address)], body).await;
        (answer.status, answer.header("retry-after").to_owned())
    };
    for n in 0..50 {
        assert_eq!(from("203.0.113.1", n).await.0, 400);
    }
    assert_eq!(from("203.0.113.1", 50).await, (429, "1".to_owned()));
    assert_eq!(from("203.0.113.2", 50).await.0, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_logins_of_several_apps_all_succeed() {
    let harness = Arc::new(Harness::new().await);
    let mut apps = Vec::new();
    for name in ["one", "two", "three", "four"] {
        apps.push(harness.app(name, json!({})).await);
    }
    let logins: Vec<_> = (0..12)
        .map(|n| {
            let (harness, app) = (Arc::clone(&harness), apps[n % 4].clone());
            tokio::spawn(async move { harness.app_auth(&app).await.status })
        })
        .collect();
    for login in logins {
        assert_eq!(login.await.unwrap(), 200);
    }
    assert_eq!(harness.events("event_type=app_authenticated").await.len(), 12);
}

#[tokio::test]
async fn deregistration_ends_live_tokens_and_logins_at_once() {
    let harness = Harness::new().await;
    let admin = harness.admin().await;
    let (app, other) = (
        harness.app("shop", json!({})).await,
        harness.app("other", json!({})).await,
    );
    // Its secret is remembered as right by then.
    let tokens = [harness.app_token(&app).await, harness.app_token(&app).await];
    let given_back = harness.app_token(&app).await;
    assert_eq!(harness.post_as(&given_back, "/v1/token/release", "").await.status, 204);
    let others = harness.app_token(&other).await;
    harness
        .send_as(&admin, "DELETE", &format!("/v1/admin/apps/{}", app.id), "")
        .await
        .ok();
    for token in &tokens {
        assert!(!harness.stands(token).await);
        let answer = harness.post_as(token, "/v1/app/launch-tokens", "{").await;
        answer.refused(403, "forbidden", "app not found");
        let event = harness.last("token_revoked_access").await;
        assert_eq!(event["agent_id"], format!("app:{}", app.id));
        assert_eq!(event["error_kind"], "app_deregistered");
        for elsewhere in ["/v1/token/release", "/v1/admin/launch-tokens"] {
            let answer = harness.post_as(token, elsewhere, "{").await;
            answer.refused(403, "insufficient_scope", "token has been revoked");
        }
    }
    let answer = harness.post_as(&given_back, "/v1/app/launch-tokens", "{").await;
    answer.refused(403, "insufficient_scope", "token has been revoked");
    // Its logins of before count against the limit.
    harness.clock.advance(60);
    harness
        .app_auth(&app)
        .await
        .refused(401, "unauthorized", "Authentication failed");
    assert!(harness.stands(&others).await);
    // The revocation goes when the last token that it can hit has expired.
    harness.clock.advance(86_400);
    agentwrit_broker::process::housekeeping::prune(&harness.state).await;
    assert!(!harness.stands(&tokens[0]).await);
}

#[tokio::test]
async fn an_apps_token_opens_nothing_else() {
    let harness = Harness::new().await;
    let app = harness.app("shop", json!({})).await;
    let token = harness.app_token(&app).await;
    for (method, path, scope) in [
        ("GET", "/v1/audit/events", "admin:audit:*"),
        ("POST", "/v1/revoke", "admin:revoke:*"),
        ("POST", "/v1/admin/launch-tokens", "admin:launch-tokens:*"),
    ] {
        let answer = harness.send_as(&token, method, path, "").await;
        answer.refused(
            403,
            "insufficient_scope",
            &format!("token lacks required scope: {scope}"),
        );
    }
    let answer = harness
        .post("/v1/token/validate", json!({"token": token}).to_string())
        .await
        .ok();
    assert_eq!(
        (&answer["valid"], answer["claims"].get("task_id")),
        (&json!(true), None::<&Value>)
    );
    for path in ["/v1/token/renew", "/v1/delegate"] {
        let body = json!({"delegate_to": "spiffe://a/agent/b/c/d", "scope": ["app:agents:*"]}).to_string();
        harness
            .post_as(&token, path, body)
            .await
            .refused_like(403, "insufficient_scope", "agent");
    }
    assert_eq!(harness.post_as(&token, "/v1/token/release", "").await.status, 204);
    let again = harness.post_as(&token, "/v1/token/release", "").await;
    again.refused(403, "insufficient_scope", "token has been revoked");
    assert_eq!(
        harness.app_auth(&app).await.status,
        200,
        "that was the token, not the app"
    );
}
