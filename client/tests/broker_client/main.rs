//! The client against a small server of its own, over TLS and plain HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod answers;
mod calls;
mod trust;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_client::{BrokerClient, Class, ClientConfig, Error, Identity, Renewal, Trust};
use agentwrit_protocol::apps::{AppStatus, RegisterAppRequest, UpdateAppRequest};
use agentwrit_protocol::k8s::{PodLaunchRequest, PolicyKind, WriteOrder};
use agentwrit_protocol::wire::LaunchTokenRequest;
use agentwrit_protocol::{ErrorCode, Sensitive, Ttl, UnixSeconds};
use agentwrit_testkit::Authority;
use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What the server saw of one request.
#[derive(Debug, Clone)]
struct Seen {
    method: String,
    path: String,
    headers: HeaderMap,
    body: String,
}

type Reply = Arc<dyn Fn(&Seen) -> Option<Response<Full<Bytes>>> + Send + Sync>;

struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<Mutex<usize>>,
}

impl Server {
    /// A server that answers with `reply`; `None` never answers.
    async fn start(tls: Option<TlsAcceptor>, reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(0));
        let (log, count) = (Arc::clone(&seen), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *count.lock() += 1;
                let (log, reply, tls) = (Arc::clone(&log), Arc::clone(&reply), tls.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let (log, reply) = (Arc::clone(&log), Arc::clone(&reply));
                        async move {
                            let (parts, body) = request.into_parts();
                            let body = body.collect().await.unwrap().to_bytes();
                            let seen = Seen {
                                method: parts.method.to_string(),
                                path: parts.uri.to_string(),
                                headers: parts.headers,
                                body: String::from_utf8(body.to_vec()).unwrap(),
                            };
                            log.lock().push(seen.clone());
                            match reply(&seen) {
                                Some(response) => Ok::<_, Infallible>(response),
                                None => std::future::pending().await,
                            }
                        }
                    });
                    let builder = hyper::server::conn::http1::Builder::new();
                    match tls {
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                            }
                        }
                        None => {
                            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                        }
                    }
                });
            }
        });
        Self {
            address,
            seen,
            connections,
        }
    }

    async fn plain(reply: impl Fn(&Seen) -> Option<Response<Full<Bytes>>> + Send + Sync + 'static) -> Self {
        Self::start(None, Arc::new(reply)).await
    }

    fn config(&self) -> ClientConfig {
        ClientConfig::new(format!("http://{}", self.address))
    }

    fn client(&self) -> BrokerClient {
        BrokerClient::new(self.config()).unwrap()
    }

    fn last(&self) -> Seen {
        self.seen.lock().last().unwrap().clone()
    }
}

// `None`, no answer at all, is the other thing a reply can be.
#[allow(clippy::unnecessary_wraps)]
fn answer(status: u16, body: &str) -> Option<Response<Full<Bytes>>> {
    let response = Response::builder().status(status).header("Agentwrit-Epoch", "epoch-1");
    Some(response.body(Full::new(Bytes::from(body.to_owned()))).unwrap())
}

const HEALTH: &str = r#"{"status":"ok","version":"2.0.0","uptime":1,"db_connected":true,"audit_events_count":0}"#;

async fn tls_server(authority: &Authority) -> Server {
    Server::start(
        Some(authority.issue("localhost").acceptor(&[])),
        Arc::new(|_: &Seen| answer(200, HEALTH)),
    )
    .await
}

fn https(server: &Server, trust: Trust) -> BrokerClient {
    let url = format!("https://localhost:{}/", server.address.port());
    BrokerClient::new(ClientConfig {
        trust,
        ..ClientConfig::new(url)
    })
    .unwrap()
}
