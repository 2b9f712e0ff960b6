//! Two small HTTP listeners: the token endpoint and the probes.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_server::{Budget, Connection, Listener, Service, Settings, Times};
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::http::endpoint::{self, Body, Reply};
use crate::status::Status;

/// Connections at once. A probe always gets one: the peer that has most of them loses its idlest.
/// So many that a flood of short ones from many peers doesn't come around to a probe's before it is answered.
const MAX_CONNECTIONS: usize = 256;
/// The kernel's buffers of each are small, for a pod's memory is: requests and answers are short.
const SOCKET_BUFFER: usize = 8 * 1024;
/// hyper's least.
const MAX_HEAD: usize = 8_192;
const MAX_HEADER_LINES: usize = 64;

const SETTINGS: Settings = Settings {
    times: Times {
        header: Duration::from_secs(2),
        read: Duration::from_secs(2),
        write: Duration::from_secs(2),
        idle: Duration::from_secs(5),
        linger: Duration::from_millis(50),
        ..Times::OPS
    },
    budget: Budget::small(MAX_CONNECTIONS),
    max_head: MAX_HEAD,
    max_header_lines: MAX_HEADER_LINES,
    keep_alive: false,
    socket_buffer: SOCKET_BUFFER,
};

/// What a listener serves.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Serves {
    Token,
    Health,
}

struct Answers {
    serves: Serves,
    status: Status,
}

/// Serves until the task is dropped.
pub(crate) async fn serve(socket: TcpListener, serves: Serves, status: Status) {
    let (stop, _) = watch::channel(());
    let answers = Arc::new(Answers { serves, status });
    Listener::new(socket, SETTINGS, None).serve(&answers, &stop).await;
}

impl Service for Answers {
    type Body = Full<Bytes>;

    async fn call(&self, request: Request<Incoming>, _: Connection) -> Response<Full<Bytes>> {
        let (method, uri) = (request.method(), request.uri());
        response(match self.serves {
            Serves::Token => endpoint::token(method, uri, request.headers(), self.status.token()),
            Serves::Health => endpoint::health(method, uri, self.status.not_ready()),
        })
    }

    fn refusal(&self, status: StatusCode) -> Bytes {
        let (code, text) = (status.as_u16(), "the request can't be read\n");
        let length = text.len();
        Bytes::from(format!(
            "HTTP/1.1 {code} Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncache-control: no-store\r\n\
             connection: close\r\ncontent-length: {length}\r\n\r\n{text}"
        ))
    }
}

fn response(reply: Reply) -> Response<Full<Bytes>> {
    let body = match reply.body {
        Body::Text(text) => Bytes::from_static(text.as_bytes()),
        Body::Line(line) => Bytes::from(line),
        Body::Token(token) => Bytes::copy_from_slice(token.expose().as_bytes()),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if let Some(allow) = reply.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn probes_are_answered_beside_silent_and_slow_peers() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let task = tokio::spawn(serve(socket, Serves::Health, Status::default()));
        let mut strangers = Vec::new();
        for n in 0..4 * MAX_CONNECTIONS {
            let mut stream = TcpStream::connect(address).await.unwrap();
            if n % 2 == 0 {
                // It may be evicted already.
                stream.write_all(b"GET /rea").await.ok();
            }
            strangers.push(stream);
        }
        for _ in 0..20 {
            let mut probe = TcpStream::connect(address).await.unwrap();
            probe
                .write_all(b"GET /ready HTTP/1.1\r\nhost: pod\r\n\r\n")
                .await
                .unwrap();
            let mut answer = String::new();
            probe.read_to_string(&mut answer).await.unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 503 ") && answer.contains("no token now"),
                "{answer}"
            );
        }
        task.abort();
    }

    #[tokio::test]
    async fn an_unreadable_request_is_refused_in_text() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let task = tokio::spawn(serve(socket, Serves::Token, Status::default()));
        for bad in [
            "\u{16}\u{3}\u{1}\r\n\r\n".to_owned(),
            format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(9000)),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(bad.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 4") && answer.ends_with("can't be read\n"),
                "{answer}"
            );
        }
        task.abort();
    }
}
