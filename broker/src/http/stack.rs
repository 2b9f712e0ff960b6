//! What happens to every request around the router: request id, body gate, paths, headers, access log.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_server::{Connection, Service};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::{BoxError, Router};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use hyper::body::{Body as HttpBody, Incoming};
use tokio::time::Instant;
use tower::ServiceExt;

use super::error::{ApiError, REQUEST_ID};
use super::layers::body_limit::{self as body, BodyRule, MAX_BODY, MAX_OPS_BODY};
use super::layers::paths::{self, Route};
use super::malformed_head;
use super::request::Arrival;
use crate::broker::AppState;
use crate::config::Cidr;
use crate::logging::within_request;

/// How long a body may take when nothing is known of its connection.
const BODY_TIME: Duration = Duration::from_secs(15);
const EPOCH: HeaderName = HeaderName::from_static("agentwrit-epoch");
const HSTS: HeaderValue = HeaderValue::from_static("max-age=63072000; includeSubDomains");

/// The front of one listener.
pub struct Front {
    broker: AppState,
    router: Router,
    max_body: usize,
    hsts: bool,
}

impl Front {
    /// A front before `router`; `secure` listeners send HSTS.
    pub fn new(broker: AppState, router: Router) -> Self {
        let hsts = broker.config.tls.is_some();
        Self {
            broker,
            router,
            max_body: MAX_BODY,
            hsts,
        }
    }

    /// The front of the ops listener, which is always plain HTTP.
    pub fn plain(broker: AppState, router: Router) -> Self {
        Self {
            hsts: false,
            max_body: MAX_OPS_BODY,
            ..Self::new(broker, router)
        }
    }

    /// Answers one request that came on no listener (tests): its body has 15 s.
    pub async fn serve<B>(&self, request: Request<B>, peer: IpAddr) -> Response
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
    {
        self.answer_on(request, Connection::detached(peer, Instant::now() + BODY_TIME))
            .await
    }

    async fn answer_on<B>(&self, request: Request<B>, connection: Connection) -> Response
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
    {
        let request_id: Arc<str> = self.request_id(request.headers()).into();
        let serving = self.serve_one(request, connection, Arc::clone(&request_id));
        within_request(request_id, serving).await
    }

    async fn serve_one<B>(&self, request: Request<B>, connection: Connection, request_id: Arc<str>) -> Response
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
    {
        let started = self.broker.clock.monotonic();
        let method = shown_method(request.method());
        let uri = request.uri().clone();
        let path = paths::shown(uri.path());
        tracing::trace!(
            target: "HTTP",
            component = "access",
            method = %method,
            path = %printable(&path),
            "request begins"
        );
        let mut response = match self.answer(request, &uri, connection, &request_id).await {
            Ok(response) => response,
            Err(error) => error.into_response(),
        };
        if foreign(&response) {
            response = ApiError::invalid("the path can't be read: its escapes must be UTF-8").into_response();
        }
        if let Some(error) = response.extensions_mut().remove::<ApiError>() {
            let allow = response.headers_mut().remove(header::ALLOW);
            response = error.render(&path, &request_id);
            if let Some(allow) = allow {
                response.headers_mut().insert(header::ALLOW, spaced(&allow));
            }
        }
        self.add_headers(response.headers_mut(), &request_id);
        if self.broker.attestation.is_some() && uri.path().starts_with("/v1/k8s/") {
            self.add_epoch(response.headers_mut());
        }
        let latency = self.broker.clock.monotonic().saturating_sub(started);
        self.broker
            .metrics
            .request_duration
            .with_label_values(&[paths::endpoint(uri.path())])
            .observe(latency.as_secs_f64());
        let status = response.status();
        log_access(&method, &path, status, latency);
        response
    }

    async fn answer<B>(
        &self,
        request: Request<B>,
        uri: &Uri,
        connection: Connection,
        request_id: &Arc<str>,
    ) -> Result<Response, ApiError>
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
    {
        let (mut parts, body) = request.into_parts();
        if let Some(problem) = connection.ambiguous() {
            return Err(ApiError::invalid(problem));
        }
        let route = paths::route(uri.path());
        let routed = match &route {
            Route::Decoded(path) => path.as_str(),
            Route::AsIs | Route::Redirect(_) => uri.path(),
        };
        let (body, unread) = match body::rule(&parts.method, routed) {
            BodyRule::First(most) => {
                let most = most.min(self.max_body);
                (
                    body::read(&parts.headers, body, most, &connection).await?,
                    Body::empty(),
                )
            }
            BodyRule::Later => (Bytes::new(), Body::new(body)),
        };
        match route {
            Route::AsIs => {}
            Route::Decoded(path) => {
                let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
                if let Ok(uri) = Uri::try_from(format!("{path}{query}")) {
                    parts.uri = uri;
                }
            }
            Route::Redirect(path) => {
                let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
                if let Ok(location) = HeaderValue::try_from(format!("{path}{query}")) {
                    return Ok((StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response());
                }
            }
        }
        let source = client(connection.peer(), &parts.headers, &self.broker.config.trusted_proxies);
        parts.extensions.insert(Arrival {
            request_id: Arc::clone(request_id),
            uri: uri.clone(),
            source,
            body,
            connection,
        });
        let request = Request::from_parts(parts, unread);
        // What handlers share survives a panic: locks are taken as they are, and the store has its own task.
        match AssertUnwindSafe(self.router.clone().oneshot(request))
            .catch_unwind()
            .await
        {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(never)) => match never {},
            Err(_) => {
                self.broker.metrics.handler_panics.inc();
                tracing::error!(target: "HTTP", component = "Panic", path = %printable(&paths::shown(uri.path())), "a handler panicked");
                Err(ApiError::internal("internal error"))
            }
        }
    }

    fn request_id(&self, headers: &HeaderMap) -> String {
        let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
        let safe = |id: &&str| {
            (1..=128).contains(&id.len())
                && id
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        };
        match given.filter(safe) {
            Some(id) => id.to_owned(),
            // Without randomness the request fails later, where it matters.
            None => self.broker.random_hex::<8>().unwrap_or_else(|_| "0".repeat(16)),
        }
    }

    /// Every answer to the controller and to pods, refusals included, says which store it comes from.
    fn add_epoch(&self, headers: &mut HeaderMap) {
        if let Ok(epoch) = HeaderValue::try_from(self.broker.store.epoch()) {
            headers.insert(EPOCH, epoch);
        }
    }

    fn add_headers(&self, headers: &mut HeaderMap, request_id: &str) {
        if let Ok(id) = HeaderValue::try_from(request_id) {
            headers.insert(REQUEST_ID, id);
        }
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        if self.hsts {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
        }
    }
}

impl Service for Front {
    type Body = Body;

    async fn call(&self, request: Request<Incoming>, connection: Connection) -> Response {
        self.answer_on(request, connection).await
    }

    fn refusal(&self, status: StatusCode) -> Bytes {
        let request_id = self.request_id(&HeaderMap::new());
        let mut headers = HeaderMap::new();
        self.add_headers(&mut headers, &request_id);
        malformed_head::answer(status, &headers, &request_id)
    }
}

/// One line a request; those of probes and scrapes that went well only at level trace, for they come every second.
fn log_access(method: &Method, path: &str, status: StatusCode, latency: Duration) {
    macro_rules! line {
        ($level:expr) => {
            tracing::event!(
                target: "HTTP",
                $level,
                component = "access",
                method = %method,
                path = %printable(path),
                status = status.as_u16(),
                latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX),
                "request"
            )
        };
    }
    if status.is_success() && matches!(path, "/livez" | "/readyz" | "/metrics") {
        line!(tracing::Level::TRACE);
    } else {
        line!(tracing::Level::INFO);
    }
}

/// Whether the router refused in its own words: a parameter of the path that is no text.
fn foreign(response: &Response) -> bool {
    response.status() == StatusCode::BAD_REQUEST && response.extensions().get::<ApiError>().is_none()
}

/// `GET,HEAD` as `GET, HEAD`, sorted.
fn spaced(allow: &HeaderValue) -> HeaderValue {
    let mut methods: Vec<&str> = allow.to_str().unwrap_or_default().split(',').map(str::trim).collect();
    methods.sort_unstable();
    HeaderValue::try_from(methods.join(", ")).unwrap_or_else(|_| allow.clone())
}

/// A method for the log and for answers: HTTP lets it be as long as a header block.
fn shown_method(method: &Method) -> Method {
    const LONGEST: usize = 32;
    let cut = method.as_str().get(..LONGEST).map(|start| format!("{start}..."));
    match cut.filter(|_| method.as_str().len() > LONGEST) {
        Some(cut) => Method::from_bytes(cut.as_bytes()).unwrap_or_default(),
        None => method.clone(),
    }
}

/// A path for the log: no control characters, not endless.
fn printable(path: &str) -> String {
    path.chars().filter(|c| !c.is_control()).take(256).collect()
}

/// The client's address: the rightmost hop that is no trusted proxy.
fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Cidr]) -> IpAddr {
    let trusts = |address: IpAddr| trusted.iter().any(|range| range.contains(address));
    let mut nearest = peer.to_canonical();
    // From the right, and no further than it is believed: the header may be long.
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    let hops = lines
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.rsplit(','));
    for hop in hops.map(str::trim) {
        if !trusts(nearest) {
            break;
        }
        match hop.parse::<IpAddr>() {
            Ok(address) => nearest = address.to_canonical(),
            Err(_) => break,
        }
    }
    nearest
}

/// Answer of the router to an unknown path.
pub(super) async fn not_found() -> ApiError {
    ApiError::new(agentwrit_protocol::ErrorCode::NotFound, "no such path")
}

/// Answer of the router to a known path with another method.
pub(super) async fn method_not_allowed(method: Method) -> ApiError {
    let detail = format!("method {} is not allowed here", shown_method(&method));
    ApiError::new(agentwrit_protocol::ErrorCode::MethodNotAllowed, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_the_rightmost_untrusted_hop() {
        let trusted: Vec<Cidr> = ["10.0.0.0/8", "192.0.2.1"]
            .iter()
            .map(|range| range.parse().unwrap())
            .collect();
        let table = [
            ("203.0.113.5", "1.2.3.4", "203.0.113.5"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "1.2.3.4", "1.2.3.4"),
            ("10.0.0.1", "6.6.6.6, 1.2.3.4, 192.0.2.1", "1.2.3.4"),
            ("10.0.0.1", "10.0.0.2", "10.0.0.2"),
            ("10.0.0.1", "1.2.3.4, rubbish", "10.0.0.1"),
            ("::ffff:10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ];
        for (peer, forwarded, wanted) in table {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", forwarded.parse().unwrap());
            let address = client(peer.parse().unwrap(), &headers, &trusted);
            assert_eq!(address, wanted.parse::<IpAddr>().unwrap(), "{peer} {forwarded}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "1.2.3.4".parse().unwrap());
        assert_eq!(client([9, 9, 9, 9].into(), &headers, &[]), IpAddr::from([9, 9, 9, 9]));
    }

    #[tokio::test]
    async fn a_panic_in_a_handler_fails_its_request_only_and_is_counted() {
        let broker = crate::testing::broker().await;
        let router = Router::new()
            .route("/good", axum::routing::get(|| async { "good" }))
            .route("/bad", axum::routing::get(|| async { broken() }));
        let front = Front::new(AppState::clone(&broker), router.with_state(AppState::clone(&broker)));
        let ask = async |path: &str| {
            let request = Request::get(path)
                .header("x-request-id", "r-7")
                .body(Body::empty())
                .unwrap();
            let response = front.serve(request, [127, 0, 0, 1].into()).await;
            let status = response.status();
            let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
            (status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
        };
        let (status, body) = ask("/bad").await;
        let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
        let wanted = serde_json::json!({
            "type": "urn:agentwrit:error:internal_error", "title": "Internal Server Error", "status": 500,
            "detail": "internal error", "instance": "/bad", "error_code": "internal_error", "request_id": "r-7",
        });
        assert_eq!((status, problem), (500, wanted));
        assert_eq!(ask("/good").await, (200, "good".to_owned()));
        assert_eq!(broker.metrics.handler_panics.get(), 1);
        assert!(
            broker
                .metrics
                .render()
                .unwrap()
                .contains("\nagentwrit_handler_panics_total 1\n")
        );
    }

    #[tokio::test]
    async fn a_long_method_is_cut_in_answer_and_log() {
        let broker = crate::testing::broker().await;
        let router = crate::http::router::api(&broker);
        let front = Front::new(AppState::clone(&broker), router);
        let long = "A".repeat(900_000);
        let request = Request::builder()
            .method(long.as_str())
            .uri("/v1/health")
            .body(Body::empty());
        let response = front.serve(request.unwrap(), [127, 0, 0, 1].into()).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert!(body.len() < 1000, "{}", body.len());
        let cut = shown_method(&Method::from_bytes(long.as_bytes()).unwrap());
        assert_eq!(cut.as_str(), format!("{}...", "A".repeat(32)));
        assert_eq!(shown_method(&Method::GET), Method::GET);
    }

    #[tokio::test]
    async fn an_unreadable_head_is_refused_with_a_problem() {
        let broker = crate::testing::broker().await;
        let front = Front::new(AppState::clone(&broker), Router::new());
        for (status, detail) in [
            (431, "request header block must not exceed 1048576 bytes or 1000 lines"),
            (414, "request target is too long"),
            (400, "malformed HTTP request"),
        ] {
            let bytes = front.refusal(StatusCode::from_u16(status).unwrap());
            let text = std::str::from_utf8(&bytes).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            for header in [
                "content-type: application/problem+json",
                "x-content-type-options: nosniff",
                "cache-control: no-store",
                "x-frame-options: DENY",
                "connection: close",
                "x-request-id: ",
            ] {
                assert!(head.contains(header), "{header} in {head}");
            }
            let problem: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(problem["error_code"], "invalid_request");
            assert_eq!(
                (problem["status"].as_u64(), problem["detail"].as_str()),
                (Some(status.into()), Some(detail))
            );
        }
    }

    fn broken() -> &'static str {
        panic!("as the test wants")
    }
}
