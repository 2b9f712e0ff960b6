//! The layers around a router, and the service that a listener calls.

use std::net::IpAddr;
use std::time::Duration;

use agentwrit_server::{Connection, Service};
use axum::body::Body;
use axum::response::Response;
use axum::{BoxError, Router};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use hyper::body::{Body as HttpBody, Incoming};
use tokio::time::Instant;
use tower::{ServiceBuilder, ServiceExt};

use super::client_address::client;
use super::layers::access_log::AccessLog;
use super::layers::body_limit::{BodyLimit, MAX_BODY, MAX_OPS_BODY};
use super::layers::catch_panic::CatchPanic;
use super::layers::frame::Around;
use super::layers::paths::Paths;
use super::layers::problem::Problems;
use super::layers::request_id::{self, RequestId};
use super::layers::security_headers::SecurityHeaders;
use super::layers::store_epoch::StoreEpoch;
use super::malformed_head;
use super::request::ApiRequest;
use crate::broker::AppState;

/// How long a body may take when nothing is known of its connection.
const BODY_TIME: Duration = Duration::from_secs(15);

/// What one listener serves: a router, and the layers around it.
pub struct HttpStack {
    broker: AppState,
    router: Router,
    max_body: usize,
    headers: SecurityHeaders,
}

impl HttpStack {
    /// The stack around `router`; `secure` listeners send HSTS.
    pub fn new(broker: AppState, router: Router) -> Self {
        let secure = broker.config.tls.is_some();
        Self {
            broker,
            router,
            max_body: MAX_BODY,
            headers: SecurityHeaders { secure },
        }
    }

    /// The stack of the ops listener, which is always plain HTTP.
    pub fn plain(broker: AppState, router: Router) -> Self {
        Self {
            headers: SecurityHeaders { secure: false },
            max_body: MAX_OPS_BODY,
            ..Self::new(broker, router)
        }
    }

    /// Answers one request that came on no listener (tests): its body has 15 s.
    pub async fn serve<B>(&self, request: Request<B>, peer: IpAddr) -> Response
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
    {
        self.answer(request, Connection::detached(peer, Instant::now() + BODY_TIME))
            .await
    }

    async fn answer<B>(&self, mut request: Request<B>, connection: Connection) -> Response
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
    {
        let broker = &*self.broker;
        let source = client(connection.peer(), request.headers(), &broker.config.trusted_proxies);
        let arrived = ApiRequest::arrived(request.uri(), source, connection);
        request.extensions_mut().insert(arrived);
        // Outermost first. Made for each request, of references.
        let service = ServiceBuilder::new()
            .layer(Around(RequestId(broker.entropy.as_ref())))
            .layer(Around(AccessLog {
                clock: broker.clock.as_ref(),
                durations: &broker.metrics.request_duration,
            }))
            .layer(Around(self.headers))
            .layer(Around(StoreEpoch(broker.attestation.as_ref().map(|_| &broker.store))))
            .layer(Around(Problems))
            .layer(Around(CatchPanic(&broker.metrics.handler_panics)))
            .layer(Around(BodyLimit { most: self.max_body }))
            .layer(Around(Paths))
            .service(self.router.clone());
        match service.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

impl Service for HttpStack {
    type Body = Body;

    async fn call(&self, request: Request<Incoming>, connection: Connection) -> Response {
        self.answer(request, connection).await
    }

    fn refusal(&self, status: StatusCode) -> Bytes {
        let mut headers = HeaderMap::new();
        let request_id = request_id::of(&headers, self.broker.entropy.as_ref());
        request_id::set(&mut headers, &request_id);
        self.headers.set(&mut headers);
        malformed_head::answer(status, &headers, &request_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_a_handler_fails_its_request_only_and_is_counted() {
        let broker = crate::testing::broker().await;
        let router = Router::new()
            .route("/good", axum::routing::get(|| async { "good" }))
            .route("/bad", axum::routing::get(|| async { broken() }));
        let front = HttpStack::new(AppState::clone(&broker), router.with_state(AppState::clone(&broker)));
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
    async fn a_long_method_is_cut_in_the_answer() {
        let broker = crate::testing::broker().await;
        let router = crate::http::router::api(&broker);
        let front = HttpStack::new(AppState::clone(&broker), router);
        let long = "A".repeat(900_000);
        let request = Request::builder()
            .method(long.as_str())
            .uri("/v1/health")
            .body(Body::empty());
        let response = front.serve(request.unwrap(), [127, 0, 0, 1].into()).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert!(body.len() < 1000, "{}", body.len());
    }

    #[tokio::test]
    async fn an_unreadable_head_is_refused_with_a_problem() {
        let broker = crate::testing::broker().await;
        let front = HttpStack::new(AppState::clone(&broker), Router::new());
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
