//! axum's routes behind the shared listener.

pub(crate) mod listeners;
pub(crate) mod ops;

use agentwrit_server::{BodyError, Connection, Service, read_body};
use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use tower::ServiceExt;

/// Extension of a request whose body was larger than its routes take; the body that comes with it is empty.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyTooLarge;

/// Routes, and how large a body they take.
pub(crate) struct Routes {
    router: Router,
    max_body: usize,
}

impl Routes {
    pub(crate) fn new(router: Router, max_body: usize) -> Self {
        Self { router, max_body }
    }
}

impl Service for Routes {
    type Body = Body;

    async fn call(&self, request: Request<Incoming>, connection: Connection) -> Response {
        self.respond(request, &connection).await
    }

    fn refusal(&self, status: StatusCode) -> Bytes {
        let (code, reason) = (status.as_u16(), status.canonical_reason().unwrap_or("Bad Request"));
        let text = "the request's header block can't be read\n";
        let length = text.len();
        Bytes::from(format!(
            "HTTP/1.1 {code} {reason}\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n\
             content-length: {length}\r\n\r\n{text}"
        ))
    }
}

impl Routes {
    /// Reads the body, the one place that limits it, and hands the request to its route.
    pub(crate) async fn respond<B>(&self, request: Request<B>, connection: &Connection) -> Response
    where
        B: HttpBody<Data = Bytes> + Unpin,
    {
        let (mut parts, body) = request.into_parts();
        let body = match read_body(&parts.headers, body, self.max_body, connection).await {
            Ok(body) => body,
            // The route says what is too large for it.
            Err(BodyError::TooLarge) => {
                parts.extensions.insert(BodyTooLarge);
                return closing(self.answer(parts, Bytes::new()).await);
            }
            Err(BodyError::Unreadable) => return refuse(StatusCode::BAD_REQUEST, BodyError::Unreadable),
            Err(BodyError::NoRoom) => return refuse(StatusCode::SERVICE_UNAVAILABLE, BodyError::NoRoom),
        };
        self.answer(parts, body).await
    }

    async fn answer(&self, parts: Parts, body: Bytes) -> Response {
        let request = Request::from_parts(parts, Body::from(body));
        match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

fn refuse(status: StatusCode, error: BodyError) -> Response {
    closing((status, format!("{error}\n")).into_response())
}

/// The rest of the request couldn't be distinguished from a next one.
fn closing(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
