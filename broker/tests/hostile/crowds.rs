//! Many at once, and bodies that nobody should send.

use agentwrit_testkit::Harness;
use std::sync::Arc;

use serde_json::json;
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn of_parallel_registrations_or_renewals_exactly_one_wins() {
    let harness = Arc::new(Harness::new().await);
    let launch_token = harness.launch(json!({})).await;
    let mut bodies = Vec::new();
    for _ in 0..64 {
        bodies.push(harness.registration(&launch_token, json!({})).await.to_string());
    }
    let registrations: Vec<_> = bodies
        .into_iter()
        .map(|body| {
            let harness = Arc::clone(&harness);
            tokio::spawn(async move { harness.post("/v1/register", body).await })
        })
        .collect();
    let mut tokens = Vec::new();
    for registration in registrations {
        let answer = registration.await.unwrap();
        match answer.status {
            200 => tokens.push(answer.json()["access_token"].as_str().unwrap().to_owned()),
            other => assert_eq!(other, 401, "{answer:?}"),
        }
    }
    assert_eq!(tokens.len(), 1);
    for path in ["/v1/token/renew", "/v1/token/release"] {
        let (_, token) = harness.agent(json!({})).await;
        let calls: Vec<_> = (0..64)
            .map(|_| {
                let (harness, token) = (Arc::clone(&harness), token.clone());
                tokio::spawn(async move { harness.post_as(&token, path, "").await.status })
            })
            .collect();
        let mut won = 0;
        for call in calls {
            match call.await.unwrap() {
                200 | 204 => won += 1,
                other => assert!(matches!(other, 401 | 403), "{path}: {other}"),
            }
        }
        assert_eq!(won, 1, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_logins_of_one_app_at_once_three_pass() {
    let harness = Arc::new(Harness::new().await);
    let app = harness.app("shop", json!({})).await;
    let logins: Vec<_> = (0..64)
        .map(|_| {
            let (harness, app) = (Arc::clone(&harness), app.clone());
            tokio::spawn(async move { harness.app_auth(&app).await })
        })
        .collect();
    let mut passed = 0;
    for login in logins {
        let answer = login.await.unwrap();
        if answer.status == 200 {
            passed += 1;
        } else {
            answer.refused(429, "rate_limited", "rate limit exceeded, try again later");
        }
    }
    assert_eq!(passed, 3);
}

#[tokio::test]
async fn broken_bodies_are_refused_and_nothing_else_happens() {
    let harness = Harness::new().await;
    let deep = format!("{{\"token\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let bodies: [&[u8]; 12] = [
        b"",
        b"{",
        b"[]",
        b"5",
        b"{\"token\":5}",
        b"{\"token\":{\"a\":[]}}",
        b"\xff\xfe\x00",
        b"{\"token\":\"\\ud800\"}",
        b"{\"token\":\"\\u0000\"}",
        "{\"token\":\"\u{202e}gnp\u{2066}\"}".as_bytes(),
        b"{\"token\":\"a\",\"token\":\"b\",\"x\":{}}",
        deep.as_bytes(),
    ];
    for path in [
        "/v1/token/validate",
        "/v1/register",
        "/v1/admin/auth",
        "/v1/app/auth",
        "/v1/revoke",
        "/v1/delegate",
    ] {
        for body in bodies {
            harness.clock.advance(60);
            let answer = harness.post(path, body).await;
            assert!(matches!(answer.status, 200 | 400 | 401), "{path}: {answer:?}");
            assert!(
                answer.status != 200 || path == "/v1/token/validate",
                "{path}: {answer:?}"
            );
        }
    }
}

#[tokio::test]
async fn idle_connections_keep_no_client_out() {
    let harness = Harness::new().await;
    let mut idle = Vec::new();
    for _ in 0..4000 {
        idle.push(TcpStream::connect(harness.address()).await.unwrap());
    }
    assert_eq!(harness.get("/v1/health").await.status, 200);
    drop(idle);
}
