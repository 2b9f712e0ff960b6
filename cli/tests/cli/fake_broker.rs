//! A broker that answers by path and remembers what it was asked; runs in a thread of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::real_broker::SECRET;
use super::support::{Ended, awrit};

pub(crate) const ADMIN_TOKEN: &str = "admin-token-0123456789";

type Calls = Arc<Mutex<Vec<String>>>;

/// `METHOD path?query` and bearer and body of a request, and the answer to it.
type Reply = fn(&str, &str, &str) -> (u16, String);

pub(crate) struct FakeBroker {
    pub(crate) url: String,
    calls: Calls,
}

impl FakeBroker {
    pub(crate) fn plain(reply: Reply) -> Self {
        Self::start(None, reply)
    }

    /// One that says that it is this date.
    pub(crate) fn dated(date: &'static str, reply: Reply) -> Self {
        Self::start(Some(date), reply)
    }

    fn start(date: Option<&'static str>, reply: Reply) -> Self {
        let calls = Calls::default();
        let log = Arc::clone(&calls);
        let (send, receive) = std::sync::mpsc::channel::<SocketAddr>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                send.send(listener.local_addr().unwrap()).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    serve(stream, date, reply, Arc::clone(&log)).await;
                }
            });
        });
        let address = receive.recv().unwrap();
        Self {
            url: format!("http://localhost:{}", address.port()),
            calls,
        }
    }

    /// Runs `awrit` as its admin; neither secret nor token may show.
    pub(crate) fn awrit(&self, arguments: &[&str]) -> Ended {
        let environment = [("AACTL_BROKER_URL", self.url.as_str()), ("AACTL_ADMIN_SECRET", SECRET)];
        let ended = awrit(&environment, arguments);
        for text in [&ended.out, &ended.err] {
            assert!(!text.contains(SECRET) && !text.contains(ADMIN_TOKEN), "{ended:?}");
        }
        ended
    }

    /// What it was asked, in order.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

async fn serve(stream: TcpStream, date: Option<&'static str>, reply: Reply, log: Calls) {
    let service = service_fn(|request: Request<Incoming>| {
        let log = Arc::clone(&log);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let body = String::from_utf8(body.to_vec()).unwrap();
            let bearer = parts
                .headers
                .get("authorization")
                .map(|value| value.to_str().unwrap().to_owned());
            let bearer = bearer.unwrap_or_default().replace("Bearer ", "");
            let call = format!("{} {}", parts.method, parts.uri);
            log.lock().unwrap().push(call.clone());
            let (status, text) = if call == "POST /v1/admin/auth" {
                login(&body)
            } else {
                reply(&call, &bearer, &body)
            };
            let mut response = Response::new(Full::new(Bytes::from(text)));
            *response.status_mut() = status.try_into().unwrap();
            if let Some(date) = date {
                response.headers_mut().insert("date", date.parse().unwrap());
            }
            Ok::<_, Infallible>(response)
        }
    });
    // One connection after the other, so none may be kept.
    let builder = hyper::server::conn::http1::Builder::new().keep_alive(false).to_owned();
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

fn login(body: &str) -> (u16, String) {
    if body == format!(r#"{{"secret":"{SECRET}"}}"#) {
        let token = format!(r#"{{"access_token":"{ADMIN_TOKEN}","expires_in":300,"token_type":"Bearer"}}"#);
        return (200, token);
    }
    let refusal = r#"{"status":401,"detail":"invalid credentials","error_code":"unauthorized"}"#;
    (401, refusal.to_owned())
}
