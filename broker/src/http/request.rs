//! One request as handlers see it.

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use agentwrit_server::Connection;
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{HeaderMap, Uri};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::error::ApiError;
use super::json::{self, Trailing};
use super::layers::body_limit::{self as body, MAX_BODY};
use super::layers::paths;
use crate::service::origin::AuditOrigin;

/// What the front knows about a request before routing.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Echoed as `X-Request-ID`.
    pub request_id: Arc<str>,
    /// What was asked for, as it came.
    pub uri: Uri,
    /// The client: the peer, or the rightmost untrusted hop.
    pub source: IpAddr,
    /// The whole body; empty when the handler reads it.
    pub body: Bytes,
    /// The connection it came on.
    pub connection: Connection,
}

/// Extractor: everything of a request that a handler may want.
#[derive(Debug)]
pub struct ApiRequest {
    /// What was asked for, as it came.
    pub uri: Uri,
    /// Headers.
    pub headers: HeaderMap,
    /// Echoed as `X-Request-ID`.
    pub request_id: Arc<str>,
    /// The client's address.
    pub source: IpAddr,
    /// The whole body; empty when the handler reads it with [`ApiRequest::read_rest`].
    pub body: Bytes,
    /// The connection it came on.
    pub connection: Connection,
    /// In a lock only because a body can't be shared between threads.
    unread: Mutex<Body>,
}

impl ApiRequest {
    /// Path without query, decoded.
    pub fn path(&self) -> Cow<'_, str> {
        paths::shown(self.uri.path())
    }

    /// Query string; empty when there is none.
    pub fn query(&self) -> &str {
        self.uri.query().unwrap_or_default()
    }

    /// The client's address as text, for the audit trail.
    pub fn source_text(&self) -> String {
        self.source.to_string()
    }

    /// What audit events tell of it; `path` is [`ApiRequest::path`].
    pub(super) fn origin<'a>(&self, path: &'a str) -> AuditOrigin<'a> {
        AuditOrigin {
            source: self.source,
            resource: path,
        }
    }

    /// A header's value, when it is there and readable.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Reads the body of an endpoint that wants to know its caller first; up to 1 MiB.
    ///
    /// # Errors
    /// The answer to a body that is too large, can't be read, or has no room.
    pub async fn read_rest(&mut self) -> Result<(), ApiError> {
        let unread = std::mem::take(self.unread.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.body = body::read(&self.headers, unread, MAX_BODY, &self.connection).await?;
        Ok(())
    }

    /// The body as JSON; bytes after the first value are ignored.
    ///
    /// # Errors
    /// 400 `malformed JSON body`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        json::read(&self.body, Trailing::Ignored)
    }

    /// The body as JSON, without a copy of its texts, if it is one of the usual kind. `None` says nothing: read it with
    /// [`ApiRequest::json`] then.
    pub fn borrowed_json<'de, T: Deserialize<'de>>(&'de self) -> Option<T> {
        json::parse_usual(&self.body, Trailing::Ignored)
    }

    /// The body as JSON and nothing else.
    ///
    /// # Errors
    /// 400 `malformed JSON body`.
    pub fn strict_json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        json::read(&self.body, Trailing::Refused)
    }
}

impl<S: Send + Sync> FromRequest<S> for ApiRequest {
    type Rejection = Infallible;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Infallible> {
        let (mut parts, unread) = request.into_parts();
        let arrival = parts.extensions.remove::<Arrival>().unwrap_or_else(|| Arrival {
            request_id: Arc::from(""),
            uri: parts.uri,
            source: IpAddr::from([0, 0, 0, 0]),
            body: Bytes::new(),
            connection: Connection::detached(IpAddr::from([0, 0, 0, 0]), Instant::now()),
        });
        Ok(Self {
            uri: arrival.uri,
            headers: parts.headers,
            request_id: arrival.request_id,
            source: arrival.source,
            body: arrival.body,
            connection: arrival.connection,
            unread: Mutex::new(unread),
        })
    }
}
