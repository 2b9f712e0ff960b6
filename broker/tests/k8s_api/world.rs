//! What tests do: call the broker, write policy, launch and register pods, ask about tokens.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use agentwrit_broker::attest::{PodFacts, SidecarPolicy};
use agentwrit_broker::background;
use agentwrit_broker::broker::AppState;
use agentwrit_broker::config::Config;
use agentwrit_broker::http::{Front, router};
use agentwrit_broker::startup::{Surroundings, assemble};
use agentwrit_broker::system::SystemEntropy;
use agentwrit_protocol::clock::ManualClock;
use axum::body::Body;
use axum::extract::Request;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::cluster::{AUDIENCE, CONTROLLER, FakeCluster, token};

/// One answer of the broker.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// `(status, error_code)`.
    pub fn refusal(&self) -> (u16, &str) {
        (self.status.as_u16(), self.body["error_code"].as_str().unwrap_or(""))
    }

    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.body);
        self.body
    }
}

/// A pod of the tests.
#[derive(Debug, Clone)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub service_account: String,
    pub policy: String,
}

impl Pod {
    pub fn bearer(&self) -> String {
        self.bearer_with(&json!({}))
    }

    /// Its ServiceAccount token with other claims.
    pub fn bearer_with(&self, changes: &Value) -> String {
        let mut claims = json!({
            "aud": [AUDIENCE], "exp": 9_000_000_000_i64,
            "sub": format!("system:serviceaccount:{}:{}", self.namespace, self.service_account),
            "pod": self.name, "uid": self.uid,
        });
        for (key, value) in changes.as_object().unwrap() {
            claims[key] = value.clone();
        }
        token(&claims)
    }
}

/// A pod's key pair.
pub struct Keys(SigningKey);

impl Keys {
    pub fn new(seed: u8) -> Self {
        Self(SigningKey::from_bytes(&[seed; 32]))
    }

    pub fn public(&self) -> String {
        STANDARD.encode(self.0.verifying_key().as_bytes())
    }

    pub fn sign(&self, nonce: &str) -> String {
        STANDARD.encode(self.0.sign(&hex::decode(nonce).unwrap()).to_bytes())
    }

    /// The header `Agentwrit-Proof` for a token at a time, Unix seconds.
    pub fn prove(&self, trust_domain: &str, jti: &str, time: i64) -> String {
        let text = format!("agentwrit-renewal-v1\n{trust_domain}\n{jti}\n{time}");
        let signature = URL_SAFE_NO_PAD.encode(self.0.sign(text.as_bytes()).to_bytes());
        format!("v1;t={time};sig={signature}")
    }
}

/// What a launch answered.
#[derive(Debug, Clone)]
pub struct Launched {
    pub launch_token: String,
    pub orch_id: String,
    pub task_id: String,
    pub scopes: Vec<String>,
}

/// The broker and what surrounds it.
pub struct World {
    pub clock: Arc<ManualClock>,
    pub cluster: Arc<FakeCluster>,
    broker: AppState,
    front: Front,
    sequence: AtomicI64,
    dir: tempfile::TempDir,
}

const ADMIN_SECRET: &str = "correct horse battery staple";
/// Unix seconds at which every test starts.
pub const NOW: i64 = 1_800_000_000;

impl World {
    pub async fn new() -> Self {
        Self::assembled(true, &[]).await
    }

    /// With these settings beside those that every test has.
    pub async fn with(changes: &[(&'static str, &str)]) -> Self {
        Self::assembled(true, changes).await
    }

    /// A broker that nobody configured attestation for.
    pub async fn without_attestation() -> Self {
        Self::assembled(false, &[]).await
    }

    /// The same after a restart of the broker.
    pub async fn restarted(self) -> Self {
        self.broker.store.close().await.unwrap();
        self.reassembled().await
    }

    async fn reassembled(self) -> Self {
        let Self {
            clock,
            cluster,
            broker,
            sequence,
            dir,
            ..
        } = self;
        let config = broker.config.clone();
        drop(broker);
        Self::assemble(config, clock, cluster, sequence, dir).await
    }

    /// The same after a restart that found the key and lost the store.
    pub async fn with_lost_store(self) -> Self {
        self.broker.store.close().await.unwrap();
        for name in ["data.db", "data.db-wal", "data.db-shm"] {
            if let Err(error) = std::fs::remove_file(self.dir.path().join(name)) {
                assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
            }
        }
        self.reassembled().await
    }

    /// The same after a restart, and a copy of its volume.
    pub async fn copied(self) -> (Self, Vec<u8>) {
        self.broker.store.close().await.unwrap();
        let copy = std::fs::read(self.dir.path().join("data.db")).unwrap();
        (self.reassembled().await, copy)
    }

    /// The same after a restart on a volume that was put back from a copy, with the mark that was on it.
    pub async fn put_back(self, copy: &[u8]) -> Self {
        self.broker.store.close().await.unwrap();
        std::fs::write(self.dir.path().join("data.db"), copy).unwrap();
        std::fs::remove_file(self.dir.path().join("signing.key.mark")).unwrap();
        self.reassembled().await
    }

    async fn assembled(attestation: bool, changes: &[(&'static str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let mut settings = HashMap::from([
            ("AA_ADMIN_SECRET", ADMIN_SECRET.to_owned()),
            ("AA_DB_PATH", path("data.db")),
            ("AA_SIGNING_KEY_PATH", path("signing.key")),
        ]);
        if attestation {
            settings.insert("AA_ATTEST_AUDIENCE", AUDIENCE.to_owned());
            settings.insert("AA_CONTROLLER_SUBJECT", CONTROLLER.to_owned());
        }
        settings.extend(changes.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let config = Config::load(&|name| settings.get(name).cloned()).unwrap();
        let clock = Arc::new(ManualClock::at(NOW));
        Self::assemble(config, clock, Arc::new(FakeCluster::default()), AtomicI64::new(1), dir).await
    }

    async fn assemble(
        config: Config,
        clock: Arc<ManualClock>,
        cluster: Arc<FakeCluster>,
        sequence: AtomicI64,
        dir: tempfile::TempDir,
    ) -> Self {
        let surroundings = Surroundings {
            clock: clock.clone(),
            entropy: Arc::new(SystemEntropy),
            attestor: Some(cluster.clone()),
        };
        let broker = assemble(config, surroundings).await.unwrap();
        let front = Front::new(broker.clone(), router::api(&broker));
        Self {
            clock,
            cluster,
            broker,
            front,
            sequence,
            dir,
        }
    }

    /// What the broker does each minute to events of long ago, here to all.
    pub async fn shorten(&self) {
        agentwrit_broker::background::shorten(&self.broker, 0).await;
    }

    /// Bytes that the store takes in its file.
    pub fn bytes(&self) -> i64 {
        let store = rusqlite::Connection::open(self.dir.path().join("data.db")).unwrap();
        let pragma = |name: &str| -> i64 {
            store
                .query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
                .unwrap()
        };
        (pragma("page_count") - pragma("freelist_count")) * pragma("page_size")
    }

    /// How many rows a table of the store has.
    pub fn rows(&self, table: &str) -> i64 {
        let store = rusqlite::Connection::open(self.dir.path().join("data.db")).unwrap();
        let sql = format!("SELECT COUNT(*) FROM {table}");
        store.query_row(&sql, [], |row| row.get(0)).unwrap()
    }

    /// What the broker does each minute.
    pub async fn tidy(&self) {
        background::prune(&self.broker).await;
    }

    /// One request over the router.
    pub async fn call(&self, method: &str, path: &str, bearer: &str, body: &Value) -> Answer {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.raw(method, path, bearer, body).await
    }

    /// A body that is no JSON.
    pub async fn text(&self, path: &str) -> String {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let response = self.front.serve(request, IpAddr::from([10, 0, 0, 7])).await;
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    /// The body of an answer, byte for byte.
    pub async fn text_of(&self, method: &str, path: &str, bearer: &str, body: &Value) -> String {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("Authorization", format!("Bearer {bearer}"));
        let request = request.body(Body::from(body.to_string())).unwrap();
        let response = self.front.serve(request, IpAddr::from([10, 0, 0, 7])).await;
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    pub async fn raw(&self, method: &str, path: &str, bearer: &str, body: String) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !bearer.is_empty() {
            request = request.header("Authorization", format!("Bearer {bearer}"));
        }
        self.send(request.body(Body::from(body)).unwrap()).await
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.front.serve(request, IpAddr::from([10, 0, 0, 7])).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        }
    }

    pub fn controller() -> String {
        token(&json!({"aud": [AUDIENCE], "exp": 9_000_000_000_i64, "sub": CONTROLLER}))
    }

    /// One request as the controller.
    pub async fn as_controller(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.call(method, path, &Self::controller(), body).await
    }

    /// The next order under epoch 1.
    pub fn order(&self) -> Value {
        json!({"lease_epoch": 1, "sequence": self.sequence.fetch_add(1, Ordering::SeqCst)})
    }

    pub fn app(&self, generation: i64, state: &str, scopes: &[&str]) -> Value {
        json!({
            "uid": "app-uid", "generation": generation, "order": self.order(), "state": state,
            "spec": {"scopes": scopes, "max_agent_ttl_seconds": 3600},
        })
    }

    pub fn launch_token(&self, generation: i64, state: &str, scopes: &[&str]) -> Value {
        json!({
            "uid": "ltok-uid", "generation": generation, "order": self.order(), "state": state,
            "spec": {
                "app": "orders", "agent_name": "reader", "allowed_scopes": scopes, "max_ttl_seconds": 300,
                "service_account_names": ["reader"],
            },
        })
    }

    pub async fn put_app(&self, put: &Value) -> Answer {
        self.as_controller("PUT", "/v1/k8s/policies/apps/shop/orders", put)
            .await
    }

    pub async fn put_launch_token(&self, put: &Value) -> Answer {
        self.as_controller("PUT", "/v1/k8s/policies/launch-tokens/shop/reader", put)
            .await
    }

    /// App `orders` (read and write orders) and LaunchToken `reader` (read orders) in namespace `shop`.
    pub async fn with_policies(self) -> Self {
        self.put_app(&self.app(1, "ready", &["read:orders:*", "write:orders:*"]))
            .await
            .ok();
        self.put_launch_token(&self.launch_token(1, "ready", &["read:orders:*"]))
            .await
            .ok();
        self
    }

    /// A running pod in namespace `shop` that asks for LaunchToken `reader`.
    pub fn pod(&self, uid: &str) -> Pod {
        self.pod_in("shop", uid)
    }

    /// The same in another namespace.
    pub fn pod_in(&self, namespace: &str, uid: &str) -> Pod {
        let pod = Pod {
            namespace: namespace.into(),
            name: format!("pod-{uid}"),
            uid: uid.into(),
            service_account: "reader".into(),
            policy: "reader".into(),
        };
        self.cluster.put_pod(
            &pod.namespace,
            &pod.name,
            PodFacts {
                uid: pod.uid.clone(),
                terminating: false,
                phase: "Running".into(),
                service_account: pod.service_account.clone(),
                node: Some("node-1".into()),
                sidecar: SidecarPolicy::Named(pod.policy.clone()),
            },
        );
        pod
    }

    pub async fn launch(&self, pod: &Pod, keys: &Keys) -> Answer {
        let body = json!({"policy": pod.policy, "public_key": keys.public()});
        self.call("POST", "/v1/k8s/launch-tokens", &pod.bearer(), &body).await
    }

    /// The same with a word about proofs at renewals.
    pub async fn launch_saying(&self, pod: &Pod, keys: &Keys, renewal_proof: &Value) -> Answer {
        let body = json!({"policy": pod.policy, "public_key": keys.public(), "renewal_proof": renewal_proof});
        self.call("POST", "/v1/k8s/launch-tokens", &pod.bearer(), &body).await
    }

    #[track_caller]
    pub fn launched(answer: Answer) -> Launched {
        let body = answer.ok();
        Launched {
            launch_token: body["launch_token"].as_str().unwrap().into(),
            orch_id: body["orch_id"].as_str().unwrap().into(),
            task_id: body["task_id"].as_str().unwrap().into(),
            scopes: serde_json::from_value(body["policy"]["allowed_scope"].clone()).unwrap(),
        }
    }

    /// A registration with what a launch answered; `changes` replaces members of the request.
    pub async fn register_with(&self, launched: &Launched, keys: &Keys, changes: &Value) -> Answer {
        let nonce = self.call("GET", "/v1/challenge", "", &Value::Null).await.ok()["nonce"]
            .as_str()
            .unwrap()
            .to_owned();
        let mut body = json!({
            "launch_token": launched.launch_token, "nonce": nonce, "public_key": keys.public(),
            "signature": keys.sign(&nonce), "orch_id": launched.orch_id, "task_id": launched.task_id,
            "requested_scope": launched.scopes,
        });
        for (key, value) in changes.as_object().unwrap() {
            body[key] = value.clone();
        }
        self.call("POST", "/v1/register", "", &body).await
    }

    pub async fn register(&self, launched: &Launched, keys: &Keys) -> Answer {
        self.register_with(launched, keys, &json!({})).await
    }

    /// Launches and registers: the pod's token.
    pub async fn agent(&self, pod: &Pod, keys: &Keys) -> String {
        self.agent_with(pod, keys, &Value::Null).await
    }

    /// The same with a word about proofs at renewals.
    pub async fn agent_with(&self, pod: &Pod, keys: &Keys, renewal_proof: &Value) -> String {
        let launched = Self::launched(self.launch_saying(pod, keys, renewal_proof).await);
        self.register(&launched, keys).await.ok()["access_token"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub async fn stands(&self, token: &str) -> bool {
        let answer = self
            .call("POST", "/v1/token/validate", "", &json!({"token": token}))
            .await
            .ok();
        answer["valid"] == json!(true)
    }

    pub async fn renew(&self, token: &str) -> Answer {
        self.call("POST", "/v1/token/renew", token, &Value::Null).await
    }

    /// A renewal with an Idempotency-Key (none when empty) and a body.
    pub async fn renew_with(&self, token: &str, key: &str, body: &Value) -> Answer {
        let headers = [("Idempotency-Key", key)];
        let headers = headers.get(..usize::from(!key.is_empty())).unwrap();
        self.renew_with_headers(token, headers, body).await
    }

    /// A renewal with these headers and a body.
    pub async fn renew_with_headers(&self, token: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.renew_with_text(token, headers, &body).await
    }

    /// The same with a body as it is written.
    pub async fn renew_with_text(&self, token: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method("POST").uri("/v1/token/renew");
        request = request.header("Authorization", format!("Bearer {token}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    pub async fn admin(&self) -> String {
        let answer = self
            .call("POST", "/v1/admin/auth", "", &json!({"secret": ADMIN_SECRET}))
            .await
            .ok();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// The controller says that a pod is gone.
    pub async fn end_pod(&self, uid: &str) -> Answer {
        let body = json!({"namespace": "shop", "name": format!("pod-{uid}"), "reason": "deleted"});
        self.as_controller("POST", &format!("/v1/k8s/pods/{uid}/ended"), &body)
            .await
    }

    /// A person revokes.
    pub async fn revoke(&self, level: &str, target: &Value) -> Value {
        let body = json!({"level": level, "target": target});
        self.call("POST", "/v1/revoke", &self.admin().await, &body).await.ok()
    }

    /// A person lifts a pod's quarantine.
    pub async fn release_pod(&self, uid: &str) -> Value {
        let path = format!("/v1/k8s/pods/{uid}/release");
        self.call("POST", &path, &self.admin().await, &Value::Null).await.ok()
    }

    /// Audit events that match a query such as `event_type=pod_ended`.
    pub async fn events(&self, query: &str) -> Vec<Value> {
        let path = format!("/v1/audit/events?limit=1000&{query}");
        let answer = self.call("GET", &path, &self.admin().await, &Value::Null).await.ok();
        answer["events"].as_array().unwrap().clone()
    }

    /// The `error_kind` of the newest event of a type.
    pub async fn last_kind(&self, event_type: &str) -> String {
        let events = self.events(&format!("event_type={event_type}")).await;
        events.last().unwrap()["error_kind"].as_str().unwrap_or("").to_owned()
    }

    /// The claims of a token, unverified.
    pub fn claims(token: &str) -> Value {
        let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        serde_json::from_slice(&payload).unwrap()
    }
}
