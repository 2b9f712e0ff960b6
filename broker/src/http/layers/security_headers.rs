//! Headers that every answer carries, whatever it is.

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use tower::{Layer, Service};

use super::Answered;
use super::after::{After, Finish};

const FIXED: [(HeaderName, HeaderValue); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
];
const HSTS: HeaderValue = HeaderValue::from_static("max-age=63072000; includeSubDomains");

/// The layer, and the headers themselves for an answer that passes none. A `secure` listener sends HSTS.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct SecurityHeadersLayer {
    pub(in crate::http) secure: bool,
}

impl SecurityHeadersLayer {
    /// Puts the headers on an answer.
    pub(in crate::http) fn set(self, headers: &mut HeaderMap) {
        for (name, value) in FIXED {
            headers.insert(name, value);
        }
        if self.secure {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
        }
    }
}

impl<S> Layer<S> for SecurityHeadersLayer {
    type Service = SecurityHeaders<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SecurityHeaders { inner, headers: *self }
    }
}

/// See the module.
#[derive(Clone)]
pub(in crate::http) struct SecurityHeaders<S> {
    inner: S,
    headers: SecurityHeadersLayer,
}

impl<S, B> Service<Request<B>> for SecurityHeaders<S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = After<S::Future, SecurityHeadersLayer>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        After::new(self.inner.call(request), self.headers)
    }
}

impl Finish<Answered> for SecurityHeadersLayer {
    type Output = Answered;

    fn finish(self, answered: Answered) -> Answered {
        let mut response = answered?;
        self.set(response.headers_mut());
        Ok(response)
    }
}
