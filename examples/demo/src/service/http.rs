//! Routes and their answers.

use std::sync::Arc;

use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::{ErrorCode, Problem, Scope};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::routing::get;
use serde::Serialize;

use crate::service::orders::{NewOrder, Orders};
use crate::service::verify::{Denial, Verifier};

const PATH: &str = "/orders";
const MAX_BODY_BYTES: usize = 4096;

/// What the handlers share.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

struct Shared {
    verifier: Verifier,
    orders: Orders,
}

impl AppState {
    /// A shop with two orders in it, behind this verifier.
    pub fn new(verifier: Verifier) -> Self {
        let orders = Orders::with_samples();
        Self(Arc::new(Shared { verifier, orders }))
    }
}

/// `GET /orders` needs `read:orders:*`, `POST /orders` needs `write:orders:*`; `/healthz` and `/readyz` need nothing.
pub fn router(state: AppState) -> Router {
    Router::new()
        .route(PATH, get(list).post(add))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(state)
}

async fn ready(State(state): State<AppState>) -> (StatusCode, &'static str) {
    if state.0.verifier.ready().await {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the broker's keys are not there yet\n")
    }
}

async fn list(State(state): State<AppState>, headers: HeaderMap) -> Response<Body> {
    match allow(&state, &headers, "GET", "read:orders:*").await {
        Ok(claims) => {
            let body = serde_json::json!({ "orders": state.0.orders.list(), "caller": claims.sub });
            answer(StatusCode::OK, "application/json", &body)
        }
        Err(response) => response,
    }
}

async fn add(State(state): State<AppState>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    if let Err(response) = allow(&state, &headers, "POST", "write:orders:*").await {
        return response;
    }
    // Only after the checks: a stranger's body isn't parsed.
    let new: NewOrder = match serde_json::from_slice(&body) {
        Ok(new) => new,
        Err(error) => {
            return refuse(
                ErrorCode::InvalidRequest,
                &format!("the body must be {{\"item\": \"...\"}}: {error}"),
            );
        }
    };
    match state.0.orders.add(new) {
        Some(order) => answer(StatusCode::CREATED, "application/json", &order),
        None => refuse(ErrorCode::Conflict, "the shop holds as many orders as it can"),
    }
}

async fn allow(state: &AppState, headers: &HeaderMap, method: &str, needed: &str) -> Result<Claims, Response<Body>> {
    let outcome = async {
        let scope: Scope = needed
            .parse()
            .map_err(|_| Denial::Credential(format!("{needed} is no scope")))?;
        state.0.verifier.authorise(bearer(headers)?, &scope).await
    };
    match outcome.await {
        Ok(claims) => {
            tracing::info!(
                agent = claims.sub,
                jti = claims.jti.as_str(),
                "{method} {PATH} allowed by {needed}"
            );
            Ok(claims)
        }
        Err(denial) => {
            tracing::info!("{method} {PATH} refused: {denial}");
            Err(denied(&denial, needed))
        }
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, Denial> {
    let missing = |reason: &str| Denial::Credential(reason.to_owned());
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value,
        (None, _) => return Err(missing("the header Authorization is missing")),
        (Some(_), Some(_)) => return Err(missing("there is more than one header Authorization")),
    };
    value
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix("Bearer "))
        .ok_or_else(|| missing("the header Authorization must be: Bearer, one space, the token"))
}

fn denied(denial: &Denial, needed: &str) -> Response<Body> {
    // RFC 6750 section 3.
    let (code, challenge) = match denial {
        Denial::Credential(_) => (ErrorCode::Unauthorized, "Bearer".to_owned()),
        Denial::Token(_) => (ErrorCode::Unauthorized, "Bearer error=\"invalid_token\"".to_owned()),
        Denial::Scope(_) | Denial::Chain { .. } => (
            ErrorCode::InsufficientScope,
            format!("Bearer error=\"insufficient_scope\", scope=\"{needed}\""),
        ),
        Denial::Keys(_) => (ErrorCode::Unavailable, String::new()),
    };
    let mut response = refuse(code, &denial.to_string());
    if let (false, Ok(value)) = (challenge.is_empty(), HeaderValue::try_from(challenge)) {
        response.headers_mut().insert(WWW_AUTHENTICATE, value);
    }
    response
}

fn refuse(code: ErrorCode, detail: &str) -> Response<Body> {
    let mut problem = Problem::new(code, detail);
    PATH.clone_into(&mut problem.instance);
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer(status, "application/problem+json", &problem)
}

fn answer<T: Serialize>(status: StatusCode, content_type: &'static str, body: &T) -> Response<Body> {
    let text = serde_json::to_string(body).unwrap_or_else(|_| "{}".to_owned());
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let value = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, value);
    response
}
