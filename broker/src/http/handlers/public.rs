//! Endpoints without credentials.

use agentwrit_protocol::wire::{ValidateRequest, ValidateResponse};
use agentwrit_protocol::{ErrorCode, Sensitive};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;

use crate::http::handlers::discovery::Discovery;
use crate::http::handlers::health;
use crate::http::{ApiError, ApiRequest, AppState, reply, reply_text};
use crate::service::challenge;
use crate::service::error::Internal;
use crate::service::session::token::Validity;

/// `GET /v1/challenge`.
pub(in crate::http) async fn challenge(State(broker): State<AppState>, call: ApiRequest) -> Result<Response, ApiError> {
    broker.rate_limits().challenge(call.origin(&call.path()))?;
    let made = challenge::challenge(&broker.store, &broker.nonces, &broker.judging);
    let answer = made.map_err(|error| match error {
        Internal::Store(_) => ApiError::unavailable(),
        error => error.into(),
    })?;
    Ok(reply(StatusCode::OK, &answer))
}

/// A [`ValidateRequest`] where it stands in the body: what is not copied needs no wiping.
#[derive(Deserialize)]
struct TokenInPlace<'a> {
    token: Option<&'a str>,
}

/// `POST /v1/token/validate`.
pub(in crate::http) async fn validate(State(broker): State<AppState>, call: ApiRequest) -> Result<Response, ApiError> {
    let copy: Sensitive;
    let token = if let Some(TokenInPlace { token }) = call.borrowed_json() {
        token.unwrap_or_default()
    } else {
        copy = call.json::<ValidateRequest>()?.token.unwrap_or_else(|| "".into());
        copy.expose()
    };
    if token.is_empty() {
        return Err(ApiError::invalid("token field is required"));
    }
    match broker.tokens.validate(token) {
        // Exactly as in the token, and not read and written again.
        Validity::Valid(verified) => {
            // What encoding added is room for what stands around.
            let mut line = Vec::with_capacity(token.len());
            line.extend_from_slice(b"{\"valid\":true,\"claims\":");
            verified.write_payload(token, &mut line);
            line.extend_from_slice(b"}\n");
            Ok(reply_text(StatusCode::OK, line))
        }
        Validity::Invalid => {
            let answer = ValidateResponse {
                valid: false,
                claims: None,
                error: Some("token is invalid or expired".to_owned()),
            };
            Ok(reply(StatusCode::OK, &answer))
        }
        Validity::Unknown => Err(ApiError::unavailable()),
    }
}

/// `GET /v1/health`.
pub(in crate::http) async fn health(State(broker): State<AppState>) -> Response {
    reply(StatusCode::OK, &health::health(&broker))
}

/// `GET /.well-known/jwks.json`.
pub(in crate::http) async fn jwks(State(broker): State<AppState>) -> Response {
    reply(StatusCode::OK, &broker.tokens.keys.jwks())
}

/// `GET /.well-known/openid-configuration`: how a resource server that knows the issuer finds the keys.
pub(in crate::http) async fn discovery(State(broker): State<AppState>) -> Result<Response, ApiError> {
    let document = Discovery::of(&broker.config.issuer).ok_or_else(|| {
        let detail = "there is no discovery document: AA_ISSUER is not an https URL";
        ApiError::new(ErrorCode::NotFound, detail)
    })?;
    Ok(reply(StatusCode::OK, &document))
}

/// `GET /openapi.json`: made and checked by `tests/openapi`.
pub(in crate::http) async fn openapi() -> Response {
    const DOCUMENT: &str = include_str!("../../../../docs/openapi.json");
    (
        [(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))],
        DOCUMENT,
    )
        .into_response()
}
