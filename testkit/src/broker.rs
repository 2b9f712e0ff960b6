//! A broker in this process, and what everybody asks of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agentwrit_broker::broker::AppState;
use agentwrit_broker::http::{HttpStack, router};
use agentwrit_broker::process::assemble::StartError;
use agentwrit_broker::process::listeners::{Ended, Server};
use agentwrit_protocol::clock::ManualClock;
use agentwrit_protocol::{Clock, UnixSeconds};
use agentwrit_server::tls::Tls;
use agentwrit_store::StoreError;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::answer::{Answer, send_over};
use crate::keys::claims;
use crate::setup::Setup;
use crate::status_bit;
use crate::{ADMIN_SECRET, START, stores};

/// Who calls a broker without a network.
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));

/// A running broker.
pub struct Broker {
    pub state: AppState,
    pub clock: Arc<ManualClock>,
    pub folder: Arc<TempDir>,
    setup: Setup,
    front: HttpStack,
    port: Option<Port>,
    admin: Mutex<Option<String>>,
    signed: AtomicU64,
    _panics: NoPanics,
}

struct Port {
    address: SocketAddr,
    ops: Option<SocketAddr>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Ended, StoreError>>,
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

impl Port {
    #[allow(clippy::async_yields_async, reason = "nobody has a broker of a test end at once")]
    fn open(state: &AppState) -> Self {
        let tls = state.config.tls.clone().map(|files| Tls::load(files).unwrap());
        let server = Server::bind(Arc::clone(state), tls).unwrap();
        let (address, ops) = (server.address().unwrap(), server.ops_address().unwrap());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.serve(async move {
            stopped.await.ok();
            std::future::pending()
        }));
        Self {
            address,
            ops,
            stop,
            task,
        }
    }
}

impl Broker {
    pub(crate) async fn start(mut setup: Setup, listens: bool) -> Result<Self, StartError> {
        let state = setup.assemble().await?;
        setup.accept_clock = false;
        Ok(Self {
            front: HttpStack::new(Arc::clone(&state), router::api(&state)),
            port: listens.then(|| Port::open(&state)),
            clock: Arc::clone(&setup.clock),
            folder: Arc::clone(&setup.folder),
            setup,
            admin: Mutex::new(None),
            signed: AtomicU64::new(1),
            _panics: NoPanics(Arc::clone(&state)),
            state,
        })
    }

    /// Stops it in good order and gives back what a successor is started with.
    pub async fn stop(self) -> Setup {
        if let Some(port) = self.port {
            port.stop.send(()).unwrap();
            assert_eq!(port.task.await.unwrap().unwrap(), Ended::InOrder);
        } else {
            self.state.store.close().await.unwrap();
        }
        self.setup
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.as_ref().expect("this broker has no port").address
    }

    /// Where it listens for metrics and probes, when that is elsewhere.
    pub fn ops_address(&self) -> Option<SocketAddr> {
        self.port.as_ref().and_then(|port| port.ops)
    }

    /// One request that does not go over its port, and the answer as it begins.
    pub async fn serve(&self, request: Request<Body>, peer: IpAddr) -> Response {
        self.front.serve(request, peer).await
    }

    /// One request: over a connection of its own when it has a port.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        if let Some(port) = &self.port {
            let stream = TcpStream::connect(port.address).await.unwrap();
            return send_over(stream, method, path, headers, body).await;
        }
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.into())).unwrap();
        let (parts, body) = self.serve(request, PEER).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer::new(parts.status.as_u16(), parts.headers, &body)
    }

    pub async fn send_as(&self, token: &str, method: &str, path: &str, body: impl AsRef<[u8]>) -> Answer {
        let bearer = format!("Bearer {token}");
        self.send(method, path, &[("authorization", &bearer)], body.as_ref().to_vec())
            .await
    }

    /// One request with a JSON body; an empty bearer and a null body are left out.
    pub async fn call(&self, method: &str, path: &str, bearer: &str, body: &Value) -> Answer {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        if bearer.is_empty() {
            self.send(method, path, &[], body).await
        } else {
            self.send_as(bearer, method, path, body).await
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub async fn get_as(&self, token: &str, path: &str) -> Answer {
        self.send_as(token, "GET", path, "").await
    }

    pub async fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.send("POST", path, &[], body.as_ref().to_vec()).await
    }

    pub async fn post_as(&self, token: &str, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.send_as(token, "POST", path, body).await
    }

    /// An admin's token; asked for again only when it expires, because logins are limited.
    pub async fn admin(&self) -> String {
        let kept = self.admin.lock().clone();
        match kept {
            Some(token) if self.is_current(&token) => token,
            _ => {
                let token = self.login().await;
                *self.admin.lock() = Some(token.clone());
                token
            }
        }
    }

    /// Whether the clock stands within a token's life.
    fn is_current(&self, token: &str) -> bool {
        let claims = claims(token);
        let moment = |name: &str| UnixSeconds::new(claims[name].as_i64().unwrap());
        (moment("iat")..=moment("exp")).contains(&self.clock.unix_seconds())
    }

    /// The admin's token was refused: the next call logs in again.
    pub fn forget_admin(&self) {
        *self.admin.lock() = None;
    }

    pub async fn login(&self) -> String {
        let login = json!({"secret": ADMIN_SECRET}).to_string();
        let answer = self.post("/v1/admin/auth", login).await.ok();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// A token signed by the broker's key, without a login and without an event. Its jti is its own, so that no
    /// revocation of one hits the next.
    pub fn sign(&self, subject: &str, scope: &[&str]) -> String {
        let number = self.signed.fetch_add(1, Ordering::SeqCst);
        let claims = json!({
            "iss": "", "sub": subject, "exp": 9_000_000_000_i64, "nbf": START, "iat": self.clock.unix_seconds(),
            "jti": format!("{number:032x}"), "scope": scope,
        });
        self.state.tokens.keys.sign(claims.to_string().as_bytes()).unwrap()
    }

    /// A new challenge.
    pub async fn nonce(&self) -> String {
        let answer = self.get("/v1/challenge").await.ok();
        answer["nonce"].as_str().unwrap().to_owned()
    }

    /// Whether a token is valid; its status bit must say nothing else.
    pub async fn stands(&self, token: &str) -> bool {
        let bit = status_bit::of(&self.state.store, token).await;
        let body = json!({"token": token}).to_string();
        let answer = self.post("/v1/token/validate", body).await.ok();
        let stands = answer["valid"].as_bool().unwrap();
        // What is refused offline is refused here.
        assert!(
            !(stands && bit == Some(true)),
            "the status bit of a token that stands is set"
        );
        stands
    }

    pub async fn renew(&self, token: &str) -> Answer {
        self.post_as(token, "/v1/token/renew", "").await
    }

    /// A person revokes.
    pub async fn revoke(&self, level: &str, target: &Value) -> Value {
        let body = json!({"level": level, "target": target}).to_string();
        self.post_as(&self.admin().await, "/v1/revoke", body).await.ok()
    }

    /// Audit events that match a query such as `event_type=pod_ended`.
    pub async fn events(&self, query: &str) -> Vec<Value> {
        let path = format!("/v1/audit/events?limit=1000&{query}");
        let answer = self.get_as(&self.admin().await, &path).await.ok();
        answer["events"].as_array().unwrap().clone()
    }

    /// The last event of this type, which there must be.
    pub async fn last(&self, event_type: &str) -> Value {
        let events = self.events(&format!("event_type={event_type}")).await;
        events.last().unwrap_or_else(|| panic!("no event {event_type}")).clone()
    }

    /// Bytes that the store takes in its file.
    pub fn store_bytes(&self) -> i64 {
        let pragma = |name: &str| self.number(&format!("PRAGMA {name}"));
        (pragma("page_count") - pragma("freelist_count")) * pragma("page_size")
    }

    /// How many rows a table of the store has.
    pub fn rows(&self, table: &str) -> i64 {
        self.number(&format!("SELECT COUNT(*) FROM {table}"))
    }

    fn number(&self, sql: &str) -> i64 {
        stores::value(self.folder.path(), sql).parse().unwrap()
    }
}
