//! The service over its router: tokens of a made-up broker, a clock that stands.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agentwrit_client::{Jwk, Jwks};
use agentwrit_demo::service::{AppState, Expected, FetchError, KeyCache, KeySource, Verifier, router};
use agentwrit_protocol::clock::ManualClock;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ed25519_dalek::{Signer, SigningKey};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tower::ServiceExt;

const NOW: i64 = 1_800_000_000;
const AGENT: &str = "spiffe://agentwrit.local/agent/k8s.shop.orders/6f1c/0123456789abcdef";

/// A broker with keys that can be changed, and that counts how often it is asked.
#[derive(Default)]
struct Keys {
    published: Mutex<Vec<(String, SigningKey)>>,
    asked: AtomicUsize,
    away: std::sync::atomic::AtomicBool,
}

impl KeySource for Keys {
    fn fetch(&self) -> Pin<Box<dyn Future<Output = Result<Jwks, FetchError>> + Send + '_>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let published = self.published.lock();
        let keys = published
            .iter()
            .map(|(kid, key)| Jwk {
                kty: "OKP".into(),
                crv: "Ed25519".into(),
                x: BASE64.encode(key.verifying_key().as_bytes()),
                kid: kid.clone(),
                alg: "EdDSA".into(),
            })
            .collect();
        let away = self.away.load(Ordering::SeqCst);
        Box::pin(async move {
            if away {
                Err(FetchError("connection refused".into()))
            } else {
                Ok(Jwks { keys })
            }
        })
    }
}

struct World {
    keys: Arc<Keys>,
    clock: Arc<ManualClock>,
    app: axum::Router,
}

fn world() -> World {
    world_expecting(Expected::default())
}

fn world_expecting(expected: Expected) -> World {
    let keys = Arc::new(Keys::default());
    keys.published.lock().push(("k1".into(), signing_key(1)));
    let clock = Arc::new(ManualClock::at(NOW));
    let verifier = Verifier::new(KeyCache::new(keys.clone(), clock.clone()), expected, clock.clone());
    World {
        app: router(AppState::new(verifier)),
        keys,
        clock,
    }
}

fn signing_key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn claims() -> Value {
    json!({
        "iss": "", "sub": AGENT, "exp": NOW + 15, "nbf": NOW, "iat": NOW, "jti": "ab", "sid": "s",
        "scope": ["read:orders:*"], "task_id": "6f1c", "orch_id": "k8s.shop.orders"
    })
}

fn with(changes: &Value) -> Value {
    let mut claims = claims();
    for (key, value) in changes.as_object().unwrap() {
        claims[key] = value.clone();
    }
    claims
}

fn token_with(header: &Value, claims: &Value, key: &SigningKey) -> String {
    let body = format!(
        "{}.{}",
        BASE64.encode(header.to_string()),
        BASE64.encode(claims.to_string())
    );
    let signature = BASE64.encode(key.sign(body.as_bytes()).to_bytes());
    format!("{body}.{signature}")
}

fn header() -> Value {
    json!({"alg": "EdDSA", "typ": "JWT", "kid": "k1"})
}

fn token(claims: &Value) -> String {
    token_with(&header(), claims, &signing_key(1))
}

impl World {
    async fn call(&self, method: &str, authorization: Option<&str>) -> (StatusCode, Value, String) {
        let mut request = Request::builder().method(method).uri("/orders");
        if let Some(value) = authorization {
            request = request.header("Authorization", value);
        }
        let request = request.body(Body::from(r#"{"item": "tea"}"#)).unwrap();
        let response = self.app.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let challenge = response.headers().get("www-authenticate");
        let challenge = challenge.map_or_else(String::new, |value| value.to_str().unwrap().to_owned());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or_default(), challenge)
    }

    async fn get(&self, token: &str) -> (StatusCode, String) {
        let (status, body, _) = self.call("GET", Some(&format!("Bearer {token}"))).await;
        (status, body["detail"].as_str().unwrap_or_default().to_owned())
    }
}

#[tokio::test]
async fn a_reader_reads_and_does_not_write() {
    let world = world();
    let bearer = format!("Bearer {}", token(&claims()));
    let (status, body, _) = world.call("GET", Some(&bearer)).await;
    assert_eq!((status, body["caller"].as_str()), (StatusCode::OK, Some(AGENT)));
    assert_eq!(body["orders"].as_array().unwrap().len(), 2);
    let (status, body, challenge) = world.call("POST", Some(&bearer)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(body["error_code"], "insufficient_scope");
    assert_eq!(body["detail"], "the token lacks the scope write:orders:*");
    assert!(challenge.contains("scope=\"write:orders:*\""), "{challenge}");
    let writer = format!("Bearer {}", token(&with(&json!({"scope": ["write:orders:*"]}))));
    assert_eq!(world.call("POST", Some(&writer)).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn the_covering_rule_is_the_contracts() {
    let world = world();
    for (scope, allowed) in [
        ("read:orders:*", true),
        ("read:orders:1", false),
        ("*:*:*", false),
        ("read:*:*", false),
        ("Read:orders:*", false),
    ] {
        let (status, _) = world.get(&token(&with(&json!({"scope": [scope]})))).await;
        assert_eq!(status == StatusCode::OK, allowed, "{scope}");
    }
}

#[tokio::test]
async fn every_link_of_the_chain_must_hold_the_scope() {
    let world = world();
    let link = |scope: &str| json!({"agent": AGENT, "scope": [scope], "delegated_at": "2027-01-15T08:00:00Z", "signature": "00"});
    let good = with(&json!({"delegation_chain": [link("read:orders:*"), link("read:orders:*")]}));
    assert_eq!(world.get(&token(&good)).await.0, StatusCode::OK);
    let bad = with(&json!({"delegation_chain": [link("read:orders:*"), link("read:orders:1")]}));
    let (status, detail) = world.get(&token(&bad)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(detail.starts_with("link 2 of the delegation chain"), "{detail}");
}

#[tokio::test]
async fn a_clock_five_seconds_behind_the_broker_is_accepted() {
    let world = world();
    let (status, detail) = world.get(&token(&with(&json!({"nbf": NOW + 5, "iat": NOW + 5})))).await;
    assert_eq!(status, StatusCode::OK, "{detail}");
}

#[tokio::test]
async fn bad_tokens_are_refused_with_the_cause() {
    let world = world();
    let other_key = signing_key(9);
    let hs256 = json!({"alg": "HS256", "typ": "JWT", "kid": "k1"});
    let table = [
        (token(&with(&json!({"exp": NOW - 1}))), "it expired 1 s ago"),
        (token(&with(&json!({"exp": 0}))), "expired"),
        (token(&with(&json!({"nbf": NOW + 6}))), "good only in 6 s"),
        (token(&with(&json!({"iss": "https://else"}))), "issued by somebody else"),
        (token(&with(&json!({"sub": "admin"}))), "not an agent"),
        (token(&with(&json!({"sub": "app:x"}))), "not an agent"),
        (token(&with(&json!({"scope": ["read"]}))), "three non-empty parts"),
        (token(&json!({"sub": AGENT})), "claims can't be read"),
        (token_with(&header(), &claims(), &other_key), "signature is wrong"),
        (token_with(&hs256, &claims(), &signing_key(1)), "not EdDSA"),
        (
            token_with(
                &json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "k1"}),
                &claims(),
                &signing_key(1),
            ),
            "type is not JWT",
        ),
        (
            token_with(&json!({"alg": "EdDSA", "typ": "JWT"}), &claims(), &signing_key(1)),
            "names no key",
        ),
        (
            token_with(
                &json!({"alg": "none", "typ": "JWT", "kid": "k1"}),
                &claims(),
                &signing_key(1),
            ),
            "not a JWT",
        ),
        ("x.y.z".to_owned(), "not a JWT"),
    ];
    for (token, cause) in table {
        let (status, detail) = world.get(&token).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{cause}");
        assert!(detail.contains(cause), "{detail:?} should say {cause:?}");
        assert!(!detail.contains(&token), "a token is in the answer");
    }
    for header in [None, Some("Basic abc"), Some("bearer abc"), Some("")] {
        let (status, body, _) = world.call("GET", header).await;
        assert_eq!(
            (status, body["error_code"].as_str()),
            (StatusCode::UNAUTHORIZED, Some("unauthorized"))
        );
    }
}

#[tokio::test]
async fn a_token_is_good_in_the_second_of_its_expiry_and_not_after() {
    let world = world();
    let token = token(&claims());
    world.clock.advance(15);
    assert_eq!(world.get(&token).await.0, StatusCode::OK);
    world.clock.advance(1);
    assert_eq!(world.get(&token).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn issuer_and_audience_are_checked_when_they_are_set() {
    let world = world_expecting(Expected {
        issuer: "https://agents.example".into(),
        audience: Some("orders".into()),
    });
    for (issuer, audience, wanted) in [
        ("https://agents.example", json!(["x", "orders"]), StatusCode::OK),
        ("https://agents.example", json!(["x"]), StatusCode::UNAUTHORIZED),
        ("", json!(["orders"]), StatusCode::UNAUTHORIZED),
    ] {
        let token = token(&with(&json!({"iss": issuer, "aud": audience})));
        assert_eq!(world.get(&token).await.0, wanted, "{issuer} {audience}");
    }
}

#[tokio::test]
async fn an_unknown_kid_fetches_the_keys_again_within_a_limit() {
    let world = world();
    assert_eq!(world.get(&token(&claims())).await.0, StatusCode::OK);
    assert_eq!(world.keys.asked.load(Ordering::SeqCst), 1);
    world.keys.published.lock().push(("k2".into(), signing_key(2)));
    let rotated = token_with(
        &json!({"alg": "EdDSA", "typ": "JWT", "kid": "k2"}),
        &claims(),
        &signing_key(2),
    );
    // Too soon after the last fetch.
    assert_eq!(world.get(&rotated).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(world.keys.asked.load(Ordering::SeqCst), 1);
    world.clock.advance(5);
    assert_eq!(world.get(&rotated).await.0, StatusCode::OK);
    assert_eq!(world.keys.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn keys_are_kept_while_the_broker_is_away_and_retired_ones_go() {
    let world = world();
    let long = token(&with(&json!({"exp": NOW + 3600})));
    assert_eq!(world.get(&long).await.0, StatusCode::OK);
    world.keys.away.store(true, Ordering::SeqCst);
    world.clock.advance(301);
    assert_eq!(world.get(&long).await.0, StatusCode::OK);
    assert_eq!(world.keys.asked.load(Ordering::SeqCst), 2);
    world.keys.away.store(false, Ordering::SeqCst);
    world.keys.published.lock().clear();
    world.clock.advance(301);
    assert_eq!(world.get(&long).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn without_any_keys_the_answer_is_503_and_not_ready() {
    let world = world();
    world.keys.away.store(true, Ordering::SeqCst);
    let (status, detail) = world.get(&token(&claims())).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(detail.contains("connection refused"), "{detail}");
    let probe = Request::builder().uri("/readyz").body(Body::empty()).unwrap();
    let response = world.app.clone().oneshot(probe).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
}
