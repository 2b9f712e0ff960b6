//! A broker in a few lines: happy by default, scripted where a test wants it otherwise.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use agentwrit_protocol::Clock;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use ed25519_dalek::{Signature, VerifyingKey};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::net::TcpListener;

pub(crate) const POD: &str = "0b5c6a52-pod";
const NONCE: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) bearer: String,
    pub(crate) idempotency_key: String,
    pub(crate) proof: String,
    pub(crate) body: Value,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    scripts: HashMap<String, VecDeque<(u16, Value)>>,
    /// Tokens, and when they were issued, Unix milliseconds.
    issued: Vec<(String, i64)>,
    /// Of the last registration, base64.
    public_key: String,
    /// Seconds that its clock is ahead of the pod's.
    ahead: i64,
    away: bool,
    silent: bool,
}

#[derive(Clone)]
pub(crate) struct FakeBroker {
    pub(crate) address: SocketAddr,
    pub(crate) life: i64,
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
}

impl FakeBroker {
    pub(crate) async fn start(clock: Arc<dyn Clock>, life: i64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let broker = Self {
            address: listener.local_addr().unwrap(),
            life,
            clock,
            state: Arc::default(),
        };
        let serving = broker.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if serving.state.lock().unwrap().away {
                    continue;
                }
                let broker = serving.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| broker.clone().serve(request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .keep_alive(false)
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        broker
    }

    /// The next answers of `path`; after them it is happy again.
    pub(crate) fn script(&self, path: &str, answers: &[(u16, Value)]) {
        let mut state = self.state.lock().unwrap();
        state
            .scripts
            .entry(path.to_owned())
            .or_default()
            .extend(answers.iter().cloned());
    }

    /// Connections are closed at once.
    pub(crate) fn away(&self, away: bool) {
        self.state.lock().unwrap().away = away;
    }

    /// Requests are never answered.
    pub(crate) fn silent(&self, silent: bool) {
        self.state.lock().unwrap().silent = silent;
    }

    /// Its clock is so many seconds ahead of the pod's.
    pub(crate) fn ahead(&self, seconds: i64) {
        self.state.lock().unwrap().ahead = seconds;
    }

    fn unix_seconds(&self) -> i64 {
        self.clock.unix_seconds() + self.state.lock().unwrap().ahead
    }

    pub(crate) fn calls(&self, path: &str) -> Vec<Call> {
        let state = self.state.lock().unwrap();
        state.calls.iter().filter(|call| call.path == path).cloned().collect()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.calls.iter().map(|call| call.path.clone()).collect()
    }

    /// A token that looks like the `number`-th.
    pub(crate) fn token(&self, number: usize) -> String {
        let iat = self.clock.unix_seconds();
        let claims = json!({
            "iss": "", "sub": format!("spiffe://d/agent/k8s.shop.orders/{POD}/0001"), "exp": iat + self.life,
            "nbf": iat, "iat": iat, "jti": format!("jti-{number}"), "scope": ["read:orders:*"], "task_id": POD,
        });
        format!(
            "hdr.{}.secretsignature{number}",
            URL_SAFE_NO_PAD.encode(claims.to_string())
        )
    }

    /// How many tokens were issued.
    pub(crate) fn issued(&self) -> usize {
        self.state.lock().unwrap().issued.len()
    }

    /// Whether this is a whole token that stands: the last one, or one that the next took over from less than ten
    /// seconds ago.
    pub(crate) fn stands(&self, token: &str) -> bool {
        let state = self.state.lock().unwrap();
        let mut later = state.issued.iter().skip_while(|(issued, _)| issued != token);
        let known = later.next().is_some();
        let superseded = later.next().map(|(_, at)| *at);
        known && superseded.is_none_or(|at| self.clock.unix_millis() < at + 10_000)
    }

    fn issue(&self) -> Value {
        let mut state = self.state.lock().unwrap();
        let token = self.token(state.issued.len() + 1);
        state.issued.push((token.clone(), self.clock.unix_millis()));
        json!({
            "agent_id": format!("spiffe://d/agent/k8s.shop.orders/{POD}/0001"),
            "access_token": token,
            "expires_in": self.life,
        })
    }

    async fn serve(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let header = |name: &str| {
            let value = parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            value.unwrap_or_default()
        };
        let call = Call {
            path: parts.uri.path().to_owned(),
            bearer: header("authorization").replace("Bearer ", ""),
            idempotency_key: header("idempotency-key"),
            proof: header("agentwrit-proof"),
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        };
        let (scripted, silent) = {
            let mut state = self.state.lock().unwrap();
            state.calls.push(call.clone());
            let scripted = state.scripts.get_mut(&call.path).and_then(VecDeque::pop_front);
            (scripted, state.silent)
        };
        if silent {
            std::future::pending::<()>().await;
        }
        let (status, value) = scripted.unwrap_or_else(|| self.happy(&call));
        let mut response = Response::new(Full::new(Bytes::from(value.to_string())));
        *response.status_mut() = status.try_into().unwrap();
        let date = OffsetDateTime::from_unix_timestamp(self.unix_seconds()).unwrap();
        let date = date.format(&Rfc2822).unwrap().replace("+0000", "GMT");
        response.headers_mut().insert("Date", date.parse().unwrap());
        if status == 429 || status == 503 {
            response.headers_mut().insert("Retry-After", "1".parse().unwrap());
        }
        Ok(response)
    }

    /// Whether the proof of a renewal is in time; one that is none ends the test.
    fn proven(&self, call: &Call) -> bool {
        let rest = call.proof.strip_prefix("v1;t=").unwrap();
        let (time, signature) = rest.split_once(";sig=").unwrap();
        let claims = URL_SAFE_NO_PAD.decode(call.bearer.split('.').nth(1).unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        let text = format!("agentwrit-renewal-v1\nd\n{}\n{time}", claims["jti"].as_str().unwrap());
        let key = self.state.lock().unwrap().public_key.clone();
        let key = STANDARD.decode(key).unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        VerifyingKey::from_bytes(&key.try_into().unwrap())
            .unwrap()
            .verify_strict(text.as_bytes(), &Signature::from_slice(&signature).unwrap())
            .unwrap();
        (time.parse::<i64>().unwrap() - self.unix_seconds()).abs() <= 60
    }

    fn happy(&self, call: &Call) -> (u16, Value) {
        match call.path.as_str() {
            "/v1/k8s/launch-tokens" => {
                assert_eq!(call.bearer, "service-account-token");
                assert_eq!(call.body["renewal_proof"], true);
                let answer = json!({
                    "launch_token": "c0ffee", "expires_at": "2026-11-21T07:00:00Z", "orch_id": "k8s.shop.orders",
                    "task_id": POD, "policy": {"allowed_scope": ["read:orders:*"], "max_ttl": self.life},
                });
                (201, answer)
            }
            "/v1/challenge" => (200, json!({"nonce": NONCE, "expires_in": 30})),
            "/v1/register" => {
                check_registration(&call.body);
                let key = call.body["public_key"].as_str().unwrap().to_owned();
                self.state.lock().unwrap().public_key = key;
                (200, self.issue())
            }
            "/v1/token/renew" if self.proven(call) => (200, self.issue()),
            "/v1/token/renew" => problem(
                403,
                "proof_stale",
                "the time of the header Agentwrit-Proof is too far off",
            ),
            "/v1/token/validate" => (200, json!({"valid": true})),
            "/v1/token/release" => (204, Value::Null),
            other => panic!("the sidecar asks for {other}"),
        }
    }
}

/// A problem with a code and a detail.
pub(crate) fn problem(status: u16, code: &str, detail: &str) -> (u16, Value) {
    let body =
        json!({"type": format!("urn:agentwrit:error:{code}"), "status": status, "detail": detail, "error_code": code});
    (status, body)
}

fn check_registration(body: &Value) {
    assert_eq!(body["launch_token"], "c0ffee");
    assert_eq!(
        (body["orch_id"].as_str(), body["task_id"].as_str()),
        (Some("k8s.shop.orders"), Some(POD))
    );
    let public = STANDARD.decode(body["public_key"].as_str().unwrap()).unwrap();
    let signature = STANDARD.decode(body["signature"].as_str().unwrap()).unwrap();
    VerifyingKey::from_bytes(&public.try_into().unwrap())
        .unwrap()
        .verify_strict(
            &hex::decode(NONCE).unwrap(),
            &Signature::from_slice(&signature).unwrap(),
        )
        .unwrap();
}
