//! The broker as a sidecar sees it: happy by default, scripted where a test wants it otherwise.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use agentwrit_protocol::{Clock, Ttl, UnixMillis, UnixSeconds};
use agentwrit_testkit::{Call, FakeReply, claims};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, VerifyingKey};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

pub(crate) const POD: &str = "0b5c6a52-pod";
/// How long a token still stands after its renewal.
const OVERLAP: Ttl = Ttl::seconds(10);
const NONCE: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

#[derive(Default)]
struct State {
    scripts: HashMap<String, VecDeque<(u16, Value)>>,
    /// Tokens, and when they were issued.
    issued: Vec<(String, UnixMillis)>,
    /// Of the last registration, base64.
    public_key: String,
    /// How far its clock is ahead of the pod's.
    ahead: Ttl,
}

/// What it answers, and by which clock.
#[derive(Clone)]
struct Answers {
    life: Ttl,
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
}

#[derive(Clone)]
pub(crate) struct FakeBroker {
    pub(crate) address: SocketAddr,
    broker: agentwrit_testkit::FakeBroker,
    answers: Answers,
}

impl FakeBroker {
    pub(crate) async fn start(clock: Arc<dyn Clock>, life: i64) -> Self {
        let answers = Answers {
            life: Ttl::seconds(life),
            clock,
            state: Arc::default(),
        };
        let answering = answers.clone();
        let broker = agentwrit_testkit::FakeBroker::start(move |call| answering.answer(call)).await;
        Self {
            address: broker.address,
            broker,
            answers,
        }
    }

    /// The next answers of `path`; after them it is happy again.
    pub(crate) fn script(&self, path: &str, answers: &[(u16, Value)]) {
        let mut state = self.answers.state();
        let script = state.scripts.entry(path.to_owned()).or_default();
        script.extend(answers.iter().cloned());
    }

    /// Connections are closed at once.
    pub(crate) fn away(&self, away: bool) {
        self.broker.away(away);
    }

    /// Requests are never answered.
    pub(crate) fn silent(&self, silent: bool) {
        self.broker.silent(silent);
    }

    /// Its clock is so many seconds ahead of the pod's.
    pub(crate) fn ahead(&self, seconds: i64) {
        self.answers.state().ahead = Ttl::seconds(seconds);
    }

    pub(crate) fn calls(&self, path: &str) -> Vec<Call> {
        let calls = self.broker.calls().into_iter();
        calls.filter(|call| call.path == path).collect()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.broker.calls().into_iter().map(|call| call.path).collect()
    }

    /// A token that looks like the `number`-th.
    pub(crate) fn token(&self, number: usize) -> String {
        self.answers.token(number)
    }

    /// How many tokens were issued.
    pub(crate) fn issued(&self) -> usize {
        self.answers.state().issued.len()
    }

    /// Whether this is a whole token that stands: the last one, or one that the next took over from less than ten
    /// seconds ago.
    pub(crate) fn stands(&self, token: &str) -> bool {
        let state = self.answers.state();
        let mut later = state.issued.iter().skip_while(|(issued, _)| issued != token);
        let known = later.next().is_some();
        let superseded = later.next().map(|(_, at)| *at);
        known && superseded.is_none_or(|at| self.answers.clock.unix_millis() < at + OVERLAP)
    }
}

impl Answers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn unix_seconds(&self) -> UnixSeconds {
        self.clock.unix_seconds() + self.state().ahead
    }

    fn answer(&self, call: &Call) -> FakeReply {
        let scripted = self.state().scripts.get_mut(&call.path).and_then(VecDeque::pop_front);
        let (status, value) = scripted.unwrap_or_else(|| self.happy(call));
        let date = OffsetDateTime::from_unix_timestamp(self.unix_seconds().get()).unwrap();
        let date = date.format(&Rfc2822).unwrap().replace("+0000", "GMT");
        let reply = FakeReply::json(status, &value).header("date", date);
        if status == 429 || status == 503 {
            return reply.header("retry-after", "1");
        }
        reply
    }

    /// A token that looks like the `number`-th.
    fn token(&self, number: usize) -> String {
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

    fn issue(&self) -> Value {
        let mut state = self.state();
        let token = self.token(state.issued.len() + 1);
        state.issued.push((token.clone(), self.clock.unix_millis()));
        json!({
            "agent_id": format!("spiffe://d/agent/k8s.shop.orders/{POD}/0001"),
            "access_token": token,
            "expires_in": self.life,
        })
    }

    /// Whether the proof of a renewal is in time; one that is none ends the test.
    fn proven(&self, call: &Call) -> bool {
        let rest = call.header("agentwrit-proof").strip_prefix("v1;t=").unwrap();
        let (time, signature) = rest.split_once(";sig=").unwrap();
        let claims = claims(call.bearer());
        let text = format!("agentwrit-renewal-v1\nd\n{}\n{time}", claims["jti"].as_str().unwrap());
        let key = self.state().public_key.clone();
        let key = STANDARD.decode(key).unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        VerifyingKey::from_bytes(&key.try_into().unwrap())
            .unwrap()
            .verify_strict(text.as_bytes(), &Signature::from_slice(&signature).unwrap())
            .unwrap();
        let off = UnixSeconds::new(time.parse().unwrap()) - self.unix_seconds();
        off.get().abs() <= 60
    }

    fn happy(&self, call: &Call) -> (u16, Value) {
        match call.path.as_str() {
            "/v1/k8s/launch-tokens" => {
                assert_eq!(call.bearer(), "service-account-token");
                assert_eq!(call.json()["renewal_proof"], true);
                let answer = json!({
                    "launch_token": "c0ffee", "expires_at": "2026-11-21T07:00:00Z", "orch_id": "k8s.shop.orders",
                    "task_id": POD, "policy": {"allowed_scope": ["read:orders:*"], "max_ttl": self.life},
                });
                (201, answer)
            }
            "/v1/challenge" => (200, json!({"nonce": NONCE, "expires_in": 30})),
            "/v1/register" => {
                let body = call.json();
                check_registration(&body);
                let key = body["public_key"].as_str().unwrap().to_owned();
                self.state().public_key = key;
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
