//! A broker that answers as a test says, and remembers what it was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: String,
    pub path: String,
    /// Without its question mark; empty when there is none.
    pub query: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Call {
    /// `METHOD path?query`.
    pub fn line(&self) -> String {
        let mark = if self.query.is_empty() { "" } else { "?" };
        format!("{} {}{mark}{}", self.method, self.path, self.query)
    }

    /// A header, empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The bearer token, empty when there is none.
    pub fn bearer(&self) -> &str {
        let header = self.header("authorization");
        header.strip_prefix("Bearer ").unwrap_or(header)
    }

    /// The body; null when it is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub struct FakeReply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl FakeReply {
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    pub fn json(status: u16, body: &Value) -> Self {
        Self::text(status, body.to_string())
    }

    /// With one header more.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

type Answers = dyn Fn(&Call) -> FakeReply + Send + Sync;

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    away: bool,
    silent: bool,
}

/// A broker on a port of its own. Each connection takes one request.
#[derive(Clone)]
pub struct FakeBroker {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl FakeBroker {
    /// Serves on the test's own runtime.
    pub async fn start(answer: impl Fn(&Call) -> FakeReply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let broker = Self::on(&listener);
        tokio::spawn(broker.clone().accept(listener, Arc::new(answer)));
        broker
    }

    /// Serves in a thread of its own, for tests without a runtime.
    pub fn in_thread(answer: impl Fn(&Call) -> FakeReply + Send + Sync + 'static) -> Self {
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let broker = Self::on(&listener);
                send.send(broker.clone()).unwrap();
                broker.accept(listener, Arc::new(answer)).await;
            });
        });
        receive.recv().unwrap()
    }

    fn on(listener: &TcpListener) -> Self {
        Self {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
        }
    }

    pub fn url(&self) -> String {
        format!("http://localhost:{}", self.address.port())
    }

    /// Connections are closed at once.
    pub fn away(&self, away: bool) {
        self.state().away = away;
    }

    /// Requests are never answered.
    pub fn silent(&self, silent: bool) {
        self.state().silent = silent;
    }

    /// What it was asked, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    async fn accept(self, listener: TcpListener, answer: Arc<Answers>) {
        while let Ok((stream, _)) = listener.accept().await {
            if !self.state().away {
                tokio::spawn(self.clone().serve(stream, Arc::clone(&answer)));
            }
        }
    }

    async fn serve(self, stream: TcpStream, answer: Arc<Answers>) {
        let service = service_fn(|request| self.answer(request, &answer));
        // A connection that is kept would outlive a broker that goes away.
        let mut builder = hyper::server::conn::http1::Builder::new();
        let served = builder.keep_alive(false);
        // The client may hang up whenever it likes.
        served.serve_connection(TokioIo::new(stream), service).await.ok();
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        answer: &Arc<Answers>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let call = Call {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        };
        let silent = {
            let mut state = self.state();
            state.calls.push(call.clone());
            state.silent
        };
        if silent {
            std::future::pending::<()>().await;
        }
        let reply = answer(&call);
        let mut response = Response::builder().status(reply.status);
        for (name, value) in reply.headers {
            response = response.header(name, value);
        }
        Ok(response.body(Full::new(Bytes::from(reply.body))).unwrap())
    }
}
