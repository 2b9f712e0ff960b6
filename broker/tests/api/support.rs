//! A broker on a port of its own, a client, and an agent's hands.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use agentwrit_broker::attest::Attestor;
use agentwrit_broker::broker::AppState;
use agentwrit_broker::config::Config;
use agentwrit_broker::server::Server;
use agentwrit_broker::startup::{StartError, Surroundings, assemble};
use agentwrit_broker::store::StoreError;
use agentwrit_broker::system::SystemEntropy;
use agentwrit_protocol::Clock;
use agentwrit_protocol::clock::ManualClock;
use agentwrit_server::tls::Tls;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub const SECRET: &str = "a-good-admin-secret";
pub const START: i64 = 1_800_000_000;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The problem's code and detail; the status, type and instance are checked to fit.
    pub fn problem(&self) -> (u16, String, String) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let body = self.json();
        let code = body["error_code"].as_str().unwrap();
        assert_eq!(body["type"], format!("urn:agentwrit:error:{code}"));
        assert_eq!(body["status"], self.status);
        assert_eq!(body["request_id"], self.header("x-request-id"));
        (
            self.status,
            code.to_owned(),
            body["detail"].as_str().unwrap().to_owned(),
        )
    }

    pub fn refused(&self, status: u16, code: &str, detail: &str) {
        let problem = self.problem();
        assert_eq!(problem, (status, code.to_owned(), detail.to_owned()));
    }

    pub fn refused_like(&self, status: u16, code: &str, part: &str) {
        let (given, given_code, detail) = self.problem();
        assert_eq!((given, given_code.as_str()), (status, code), "{detail}");
        assert!(detail.contains(part), "{detail}");
    }

    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        self.json()
    }
}

/// A registered app and its credentials.
#[derive(Debug, Clone)]
pub struct App {
    pub id: String,
    pub client_id: String,
    pub secret: String,
}

/// A running broker.
pub struct Harness {
    pub clock: Arc<ManualClock>,
    pub broker: AppState,
    pub address: SocketAddr,
    pub ops: Option<SocketAddr>,
    pub folder: Arc<TempDir>,
    settings: HashMap<String, String>,
    admin: Mutex<Option<String>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), StoreError>>,
    _panics: NoPanics,
}

/// Looks, at the end of every test, whether a handler has panicked.
struct NoPanics(AppState);

impl Drop for NoPanics {
    fn drop(&mut self) {
        // A test that fails already has its reason.
        if !std::thread::panicking() {
            assert_eq!(self.0.metrics.handler_panics.get(), 0, "handlers that panicked");
        }
    }
}

fn settings(folder: &TempDir, changes: &[(&str, &str)]) -> HashMap<String, String> {
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut settings: HashMap<String, String> = [
        ("AA_ADMIN_SECRET", SECRET.to_owned()),
        ("AA_PORT", "0".to_owned()),
        ("AA_SIGNING_KEY_PATH", path("signing.key")),
        ("AA_DB_PATH", path("data.db")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    change(&mut settings, folder, changes);
    settings
}

fn change(settings: &mut HashMap<String, String>, folder: &TempDir, changes: &[(&str, &str)]) {
    for (name, value) in changes {
        if *value == "{unset}" {
            settings.remove(*name);
        } else {
            settings.insert(
                (*name).to_owned(),
                value.replace("{folder}", &folder.path().display().to_string()),
            );
        }
    }
}

impl Harness {
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    /// A broker with these settings; `{folder}` stands for its folder, `{unset}` for none.
    pub async fn with(changes: &[(&str, &str)]) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self::in_folder(folder, changes).await.unwrap()
    }

    /// A broker with these settings that asks this stand-in of Kubernetes.
    pub async fn in_cluster(cluster: Arc<dyn Attestor>, changes: &[(&str, &str)]) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let settings = settings(&folder, changes);
        Self::start(folder, settings, Arc::new(ManualClock::at(START)), Some(cluster), false)
            .await
            .unwrap()
    }

    /// A broker with these settings in a folder that exists.
    pub async fn in_folder(folder: Arc<TempDir>, changes: &[(&str, &str)]) -> Result<Self, StartError> {
        let settings = settings(&folder, changes);
        Self::start(folder, settings, Arc::new(ManualClock::at(START)), None, false).await
    }

    async fn start(
        folder: Arc<TempDir>,
        settings: HashMap<String, String>,
        clock: Arc<ManualClock>,
        attestor: Option<Arc<dyn Attestor>>,
        accept_clock: bool,
    ) -> Result<Self, StartError> {
        let mut config = Config::load(&|name| settings.get(name).cloned()).unwrap();
        config.restored = settings.contains_key("--restored");
        // bcrypt's smallest: what is slow on purpose would only be slow here.
        config.secret_cost = 4;
        config.accept_clock = accept_clock;
        let tls = config.tls.clone().map(|files| Tls::load(files).unwrap());
        let surroundings = Surroundings {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            entropy: Arc::new(SystemEntropy),
            attestor,
        };
        let broker = assemble(config, surroundings).await?;
        let server = Server::bind(Arc::clone(&broker), tls).unwrap();
        let (address, ops) = (server.address().unwrap(), server.ops_address().unwrap());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.serve(async move {
            stopped.await.ok();
        }));
        Ok(Self {
            _panics: NoPanics(Arc::clone(&broker)),
            clock,
            broker,
            address,
            ops,
            folder,
            settings,
            admin: Mutex::new(None),
            stop,
            task,
        })
    }

    /// Stops it in good order and gives back what a successor needs.
    pub async fn stop(self) -> (Arc<TempDir>, HashMap<String, String>, Arc<ManualClock>) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
        (self.folder, self.settings, self.clock)
    }

    /// Starts the successor of a broker that was stopped.
    pub async fn again(folder: Arc<TempDir>, settings: HashMap<String, String>, clock: Arc<ManualClock>) -> Self {
        Self::start(folder, settings, clock, None, false).await.unwrap()
    }

    /// Stops it and starts a successor with changed settings, at the same time of day.
    pub async fn restart(self, changes: &[(&str, &str)]) -> Self {
        let (folder, mut settings, clock) = self.stop().await;
        change(&mut settings, &folder, changes);
        Self::again(folder, settings, clock).await
    }

    /// Stops it and starts a successor with `--accept-clock`.
    pub async fn restart_accepting_the_clock(self) -> Self {
        let (folder, settings, clock) = self.stop().await;
        Self::again_accepting_the_clock(folder, settings, clock).await
    }

    /// As [`Harness::again`], with `--accept-clock`.
    pub async fn again_accepting_the_clock(
        folder: Arc<TempDir>,
        settings: HashMap<String, String>,
        clock: Arc<ManualClock>,
    ) -> Self {
        Self::start(folder, settings, clock, None, true).await.unwrap()
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        send_over(stream, method, path, headers, body).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub async fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.send("POST", path, &[], body.as_ref().to_vec()).await
    }

    pub async fn post_as(&self, token: &str, path: &str, body: impl AsRef<[u8]>) -> Answer {
        let bearer = format!("Bearer {token}");
        self.send("POST", path, &[("authorization", &bearer)], body.as_ref().to_vec())
            .await
    }

    pub async fn get_as(&self, token: &str, path: &str) -> Answer {
        self.send_as(token, "GET", path, "").await
    }

    pub async fn send_as(&self, token: &str, method: &str, path: &str, body: impl AsRef<[u8]>) -> Answer {
        let bearer = format!("Bearer {token}");
        self.send(method, path, &[("authorization", &bearer)], body.as_ref().to_vec())
            .await
    }

    /// Writes bytes, closes that direction, and reads all that comes back.
    pub async fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The broker may answer and close before it has read everything.
        stream.write_all(request).await.ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// An admin's token; asked for again only when it expires, because logins are limited.
    pub async fn admin(&self) -> String {
        let kept = self.admin.lock().unwrap().clone();
        match kept {
            Some(token) if claims(&token)["exp"].as_i64().unwrap() >= self.clock.unix_seconds() => token,
            _ => {
                let token = self.login().await;
                *self.admin.lock().unwrap() = Some(token.clone());
                token
            }
        }
    }

    /// The admin's token was refused: the next call logs in anew.
    pub fn forget_admin(&self) {
        *self.admin.lock().unwrap() = None;
    }

    pub async fn login(&self) -> String {
        let answer = self
            .post("/v1/admin/auth", json!({"secret": SECRET}).to_string())
            .await
            .ok();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// A registered app with the ceiling `read:data:*`.
    pub async fn app(&self, name: &str, changes: Value) -> App {
        let mut body = json!({"name": name, "scopes": ["read:data:*"]});
        merge(&mut body, changes);
        let admin = self.admin().await;
        let answer = self.post_as(&admin, "/v1/admin/apps", body.to_string()).await.ok();
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        App {
            id: text("app_id"),
            client_id: text("client_id"),
            secret: text("client_secret"),
        }
    }

    pub async fn app_auth(&self, app: &App) -> Answer {
        let body = json!({"client_id": app.client_id, "client_secret": app.secret});
        self.post("/v1/app/auth", body.to_string()).await
    }

    /// An app's token.
    pub async fn app_token(&self, app: &App) -> String {
        let answer = self.app_auth(app).await.ok();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    pub async fn launch(&self, changes: Value) -> String {
        let mut body = json!({"agent_name": "reader", "allowed_scope": ["read:data:*"], "ttl": 3600});
        merge(&mut body, changes);
        let admin = self.admin().await;
        let answer = self
            .post_as(&admin, "/v1/admin/launch-tokens", body.to_string())
            .await
            .ok();
        answer["launch_token"].as_str().unwrap().to_owned()
    }

    /// A complete body for `/v1/register`, with changes.
    pub async fn registration(&self, launch_token: &str, changes: Value) -> Value {
        let nonce = self.get("/v1/challenge").await.ok()["nonce"]
            .as_str()
            .unwrap()
            .to_owned();
        registration(launch_token, &nonce, changes)
    }

    pub async fn register(&self, launch_token: &str, changes: Value) -> Answer {
        let body = self.registration(launch_token, changes).await;
        self.post("/v1/register", body.to_string()).await
    }

    /// A registered agent: id and token.
    pub async fn agent(&self, changes: Value) -> (String, String) {
        let launch_token = self.launch(json!({})).await;
        let answer = self.register(&launch_token, changes).await.ok();
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        (text("agent_id"), text("access_token"))
    }

    pub async fn stands(&self, token: &str) -> bool {
        self.post("/v1/token/validate", json!({"token": token}).to_string())
            .await
            .ok()["valid"]
            .as_bool()
            .unwrap()
    }

    pub async fn renew(&self, token: &str) -> Answer {
        self.post_as(token, "/v1/token/renew", "").await
    }

    pub async fn events(&self, query: &str) -> Vec<Value> {
        let admin = self.admin().await;
        let answer = self
            .get_as(&admin, &format!("/v1/audit/events?limit=1000&{query}"))
            .await
            .ok();
        answer["events"].as_array().unwrap().clone()
    }

    /// The last event of this type, which there must be.
    pub async fn last(&self, event_type: &str) -> Value {
        let events = self.events(&format!("event_type={event_type}")).await;
        events.last().unwrap_or_else(|| panic!("no event {event_type}")).clone()
    }
}

fn merge(body: &mut Value, changes: Value) {
    for (name, value) in changes.as_object().unwrap().clone() {
        body[name] = value;
    }
}

pub fn key() -> SigningKey {
    SigningKey::from_bytes(&[42; 32])
}

pub fn registration(launch_token: &str, nonce: &str, changes: Value) -> Value {
    let signature = key().sign(&hex::decode(nonce).unwrap_or_default()).to_bytes();
    let mut body = json!({
        "launch_token": launch_token,
        "nonce": nonce,
        "public_key": STANDARD.encode(key().verifying_key().to_bytes()),
        "signature": STANDARD.encode(signature),
        "orch_id": "orch-1",
        "task_id": "task-1",
        "requested_scope": ["read:data:x"],
    });
    merge(&mut body, changes);
    body
}

pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

pub async fn send_over<S>(
    stream: S,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", "broker");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender
        .send_request(request.body(Full::new(body.into())).unwrap())
        .await
        .unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    drop(sender);
    driver.abort();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        text: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}
