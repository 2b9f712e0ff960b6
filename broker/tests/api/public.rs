//! Endpoints without credentials.

use agentwrit_testkit::{Harness, claims, send_over};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::json;

#[tokio::test]
async fn a_challenge_is_64_lower_hex_and_lives_30_seconds() {
    let harness = Harness::new().await;
    let answer = harness.get("/v1/challenge").await.ok();
    let nonce = answer["nonce"].as_str().unwrap();
    assert_eq!(nonce.len(), 64);
    assert!(nonce.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    assert_eq!(answer["expires_in"], 30);
    assert_ne!(harness.get("/v1/challenge").await.ok()["nonce"], answer["nonce"]);
}

#[tokio::test]
async fn challenges_are_limited_per_source() {
    let harness = Harness::with(&[("AA_CHALLENGE_RATE", "2")]).await;
    for _ in 0..4 {
        assert_eq!(harness.get("/v1/challenge").await.status, 200);
    }
    let answer = harness.get("/v1/challenge").await;
    answer.refused(429, "rate_limited", "rate limit exceeded, try again later");
    assert_eq!(answer.header("retry-after"), "1");
    harness.clock.advance(1);
    assert_eq!(harness.get("/v1/challenge").await.status, 200);
}

#[tokio::test]
async fn validate_answers_200_for_every_token() {
    let harness = Harness::new().await;
    let (_, token) = harness.agent(json!({})).await;
    let admin = harness.admin().await;
    for good in [&token, &admin] {
        let answer = harness
            .post("/v1/token/validate", json!({"token": good}).to_string())
            .await
            .ok();
        assert_eq!(answer["valid"], true);
        assert_eq!(answer["claims"], claims(good), "claims exactly as in the token");
        assert!(answer.get("error").is_none());
    }
    // However the text is written.
    for written in [
        format!("{{\"x\":null,\"token\":\"{token}\"}}"),
        format!(
            "{{\"token\":\"\\u{:04x}{}\"}}",
            u32::from(token.as_bytes()[0]),
            &token[1..]
        ),
        format!("{{\"token\":\"a\\/b\",\"token\":\"{token}\"}} x"),
    ] {
        let answer = harness.post("/v1/token/validate", written).await.ok();
        assert_eq!(answer["valid"], true);
    }
    for bad in ["garbage", "a.b.c", &format!("{token}x"), &token[1..]] {
        let answer = harness
            .post("/v1/token/validate", json!({"token": bad}).to_string())
            .await;
        assert_eq!(
            answer.text,
            "{\"valid\":false,\"error\":\"token is invalid or expired\"}\n"
        );
    }
    harness.clock.advance(300);
    assert!(harness.stands(&token).await, "good in second exp");
    harness.clock.advance(1);
    assert!(!harness.stands(&token).await);
}

#[tokio::test]
async fn validate_wants_a_token() {
    let harness = Harness::new().await;
    for body in ["null", "{}", "{\"token\":null}", "{\"token\":\"\"}"] {
        harness
            .post("/v1/token/validate", body)
            .await
            .refused(400, "invalid_request", "token field is required");
    }
    for body in ["", "{", "[]", "5", "{\"token\":5}"] {
        harness
            .post("/v1/token/validate", body)
            .await
            .refused(400, "invalid_request", "malformed JSON body");
    }
}

#[tokio::test]
async fn health_has_its_five_fields() {
    let harness = Harness::new().await;
    harness.clock.advance(7);
    let answer = harness.get("/v1/health").await;
    let wanted = r#"{"status":"ok","version":"2.0.0","uptime":7,"db_connected":true,"audit_events_count":0}"#;
    assert_eq!(answer.text.trim_end(), wanted);
    harness.login().await;
    assert_eq!(harness.get("/v1/health").await.ok()["audit_events_count"], 1);
}

#[tokio::test]
async fn the_issuer_leads_to_the_keys_once_it_is_an_https_url() {
    const DISCOVERY: &str = "/.well-known/openid-configuration";
    for issuer in ["", "agentwrit", "http://broker.example"] {
        let harness = Harness::with(&[("AA_ISSUER", issuer)]).await;
        harness.get(DISCOVERY).await.refused_like(404, "not_found", "AA_ISSUER");
    }
    let harness = Harness::with(&[("AA_ISSUER", "https://broker.example/aw")]).await;
    let answer = harness.get(DISCOVERY).await;
    assert_eq!(answer.header("content-type"), "application/json");
    let wanted = json!({
        "issuer": "https://broker.example/aw",
        "jwks_uri": "https://broker.example/aw/.well-known/jwks.json",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["EdDSA"],
    });
    assert_eq!((answer.status, answer.json()), (200, wanted));
    let head = harness.send("HEAD", DISCOVERY, &[], "").await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    let posted = harness.post(DISCOVERY, "").await;
    assert_eq!((posted.status, posted.header("allow")), (405, "GET, HEAD"));
}

#[tokio::test]
async fn tokens_verify_under_the_published_key_alone() {
    let harness = Harness::new().await;
    let (_, token) = harness.agent(json!({})).await;
    let jwks = harness.get("/.well-known/jwks.json").await.ok();
    let jwk = &jwks["keys"][0];
    assert_eq!(
        (jwk["kty"].as_str(), jwk["crv"].as_str(), jwk["alg"].as_str()),
        (Some("OKP"), Some("Ed25519"), Some("EdDSA"))
    );
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let wanted = format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":{}}}"#, jwk["kid"]);
    assert_eq!(String::from_utf8(header).unwrap(), wanted);
    let x: [u8; 32] = URL_SAFE_NO_PAD
        .decode(jwk["x"].as_str().unwrap())
        .unwrap()
        .try_into()
        .unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = Signature::from_slice(&URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
    VerifyingKey::from_bytes(&x)
        .unwrap()
        .verify_strict(message.as_bytes(), &signature)
        .unwrap();
}

#[tokio::test]
async fn claims_come_in_the_contracts_order() {
    let harness = Harness::with(&[("AA_ISSUER", "me"), ("AA_AUDIENCE", "you")]).await;
    let (_, token) = harness.agent(json!({})).await;
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let text = String::from_utf8(payload).unwrap();
    let mut last = 0;
    for name in [
        "iss", "sub", "aud", "exp", "nbf", "iat", "jti", "sid", "scope", "task_id", "orch_id",
    ] {
        let at = text
            .find(&format!("\"{name}\":"))
            .unwrap_or_else(|| panic!("{name} in {text}"));
        assert!(at >= last, "{name} in {text}");
        last = at;
    }
    assert!(text.contains(r#""iss":"me""#) && text.contains(r#""aud":["you"]"#));
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let harness = Harness::new().await;
    let (_, token) = harness.agent(json!({})).await;
    harness.renew(&token).await.ok();
    let answer = harness.get("/v1/metrics").await;
    assert_eq!(
        answer.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
    );
    for line in [
        "agentwrit_tokens_issued_total{scope=\"read:data:x\"} 2",
        "agentwrit_tokens_issued_total{scope=\"admin:launch-tokens:*\"} 1",
        "agentwrit_registrations_total{status=\"success\"} 1",
        "agentwrit_admin_auth_total{status=\"success\"} 1",
        "agentwrit_launch_tokens_created_total 1",
        "agentwrit_active_agents 1",
        "agentwrit_audit_events_total{event_type=\"token_renewed\"} 1",
        "agentwrit_request_duration_seconds_count{endpoint=\"token_issue\"} 1",
        "agentwrit_audit_events_loaded 0",
    ] {
        assert!(
            answer.text.lines().any(|given| given == line),
            "{line} in {}",
            answer.text
        );
    }
    assert!(answer.text.contains("process_"));
    harness.clock.advance(3600);
    let answer = harness.get("/v1/metrics").await;
    assert!(
        answer.text.contains("agentwrit_active_agents 0"),
        "expired agents are not active"
    );
}

#[tokio::test]
async fn metrics_and_probes_are_where_the_settings_say() {
    let harness = Harness::with(&[("AA_API_METRICS", "false"), ("AA_OPS_ADDRESS", "127.0.0.1:0")]).await;
    for path in ["/v1/metrics", "/metrics", "/livez", "/readyz"] {
        assert_eq!(harness.get(path).await.status, 404, "{path}");
    }
    for path in ["/metrics", "/livez", "/readyz"] {
        let stream = tokio::net::TcpStream::connect(harness.ops_address().unwrap())
            .await
            .unwrap();
        assert_eq!(send_over(stream, "GET", path, &[], "").await.status, 200, "{path}");
    }
    let plain = Harness::new().await;
    assert_eq!(plain.get("/livez").await.ok(), json!({"status": "alive"}));
    assert_eq!(plain.get("/readyz").await.ok()["status"], "ready");
}
