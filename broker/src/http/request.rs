//! One request as handlers see it.

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use agentwrit_json::{self as json, Trailing};
use agentwrit_protocol::claims::Claims;
use agentwrit_server::Connection;
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{Extensions, HeaderMap, Uri};
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::error::ApiError;
use super::layers::body_limit::{self, MAX_BODY};
use super::layers::paths::{self, Route};
use crate::service::actor::Actor;
use crate::service::origin::AuditOrigin;

/// Everything of a request that a handler may want. The layers write into it what they find out.
#[derive(Clone)]
pub struct ApiRequest {
    /// What was asked for, as it came.
    pub uri: Uri,
    /// Headers; only handlers have them here.
    pub headers: HeaderMap,
    /// The client: the peer, or the rightmost untrusted hop.
    pub source: IpAddr,
    /// The whole body; empty when the handler reads it with [`ApiRequest::read_rest`].
    pub body: Bytes,
    /// The connection it came on.
    pub connection: Connection,
    request_id: Option<Arc<str>>,
    route: Route,
    /// In a lock only because a body can't be shared between threads.
    unread: Option<Arc<Mutex<Body>>>,
}

impl ApiRequest {
    /// A request of which nothing was read but its head.
    pub(super) fn arrived(uri: &Uri, source: IpAddr, connection: Connection) -> Self {
        Self {
            uri: uri.clone(),
            headers: HeaderMap::new(),
            source,
            body: Bytes::new(),
            connection,
            request_id: None,
            route: paths::route(uri.path()),
            unread: None,
        }
    }

    /// What is known of a request outside of the layers, which is nothing.
    fn unknown() -> Self {
        let nowhere = IpAddr::from([0, 0, 0, 0]);
        Self::arrived(&Uri::default(), nowhere, Connection::detached(nowhere, Instant::now()))
    }

    /// That of the request with these extensions.
    pub(super) fn of(extensions: &mut Extensions) -> &mut Self {
        extensions.get_or_insert_with(Self::unknown)
    }

    pub(super) fn set_request_id(&mut self, id: Arc<str>) {
        self.request_id = Some(id);
    }

    pub(super) fn shared_request_id(&self) -> Option<Arc<str>> {
        self.request_id.clone()
    }

    /// Echoed as `X-Request-ID`.
    pub fn request_id(&self) -> &str {
        self.request_id.as_deref().unwrap_or_default()
    }

    /// The path that is routed, unless it is redirected.
    pub(super) fn routed_path(&self) -> &str {
        match &self.route {
            Route::Decoded(path) => path,
            Route::AsIs | Route::Redirect(_) => self.uri.path(),
        }
    }

    /// What to do with the path, to be done once.
    pub(super) fn take_route(&mut self) -> Route {
        std::mem::replace(&mut self.route, Route::AsIs)
    }

    /// Leaves the body to the handler.
    pub(super) fn read_later(&mut self, body: Body) {
        self.unread = Some(Arc::new(Mutex::new(body)));
    }

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

    /// Who asks, with the claims of its bearer.
    pub(super) fn actor(&self, bearer: &Claims) -> Actor {
        Actor {
            subject: bearer.sub.clone(),
            source: self.source_text(),
        }
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
        if let Some(unread) = self.unread.take() {
            let unread = std::mem::take(&mut *unread.lock());
            self.body = body_limit::read(&self.headers, unread, MAX_BODY, &self.connection).await?;
        }
        Ok(())
    }

    /// The body as JSON; bytes after the first value are ignored.
    ///
    /// # Errors
    /// 400 `malformed JSON body`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        Ok(json::read(&self.body, Trailing::Ignored)?)
    }

    /// The body as JSON, without a copy of its texts, if it is one of the usual kind. `None` says nothing: read it with
    /// [`ApiRequest::json`] then.
    pub fn borrowed_json<'de, T: Deserialize<'de>>(&'de self) -> Option<T> {
        json::read(&self.body, Trailing::Ignored).ok()
    }

    /// The body as JSON and nothing else.
    ///
    /// # Errors
    /// 400 `malformed JSON body`.
    pub fn strict_json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        Ok(json::read(&self.body, Trailing::Refused)?)
    }
}

impl<S: Send + Sync> FromRequest<S> for ApiRequest {
    type Rejection = Infallible;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Infallible> {
        let (mut parts, _) = request.into_parts();
        let arrived = parts.extensions.remove::<Self>().unwrap_or_else(Self::unknown);
        Ok(Self {
            headers: parts.headers,
            ..arrived
        })
    }
}
