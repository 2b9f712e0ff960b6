//! Two small HTTP listeners: the token endpoint and the probes.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use crate::endpoint::{self, Body, Reply};
use crate::status::Status;

/// Everything that one connection may take.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// More are closed at once.
const MAX_CONNECTIONS: usize = 64;
/// hyper's least.
const BUFFER_BYTES: usize = 8_192;

/// What a listener serves.
#[derive(Debug, Clone, Copy)]
pub enum Serves {
    /// The token.
    Token,
    /// The probes.
    Health,
}

/// Serves until the task is dropped.
pub async fn serve(listener: TcpListener, serves: Serves, status: Status) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, mostly: let some go.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if open.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
            continue;
        }
        open.fetch_add(1, Ordering::Relaxed);
        let (open, status) = (Arc::clone(&open), status.clone());
        tokio::spawn(async move {
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection(stream, serves, status)).await;
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn connection(stream: TcpStream, serves: Serves, status: Status) {
    let service = service_fn(move |request: Request<Incoming>| {
        let reply = match serves {
            Serves::Token => endpoint::token(request.method(), request.uri(), request.headers(), status.token()),
            Serves::Health => endpoint::health(request.method(), request.uri(), status.is_ready()),
        };
        std::future::ready(Ok::<_, Infallible>(response(reply)))
    });
    // A failed connection concerns its client alone.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn response(reply: Reply) -> Response<Full<Bytes>> {
    let body = match reply.body {
        Body::Text(text) => Bytes::from_static(text.as_bytes()),
        Body::Token(token) => Bytes::copy_from_slice(token.expose().as_bytes()),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    let text = http::HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(CONTENT_TYPE, text);
    headers.insert(CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
    if let Some(allow) = reply.allow {
        headers.insert(ALLOW, http::HeaderValue::from_static(allow));
    }
    response
}
