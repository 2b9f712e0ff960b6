//! Endpoints without credentials.

use agentwrit_protocol::wire::{ValidateRequest, ValidateResponse};
use agentwrit_protocol::{ErrorCode, Sensitive};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;

use crate::http::cached::cached;
use crate::http::handlers::discovery::Discovery;
use crate::http::handlers::health;
use crate::http::{ApiError, ApiRequest, AppState, reply, reply_text};
use crate::service::challenge;
use crate::service::error::Internal;
use crate::service::token_check::Validity;

/// Makes a nonce to sign.
///
/// It is good for one registration within 30 s. An address may ask `AA_CHALLENGE_RATE` times a second.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/v1/challenge", tag = "Agents", operation_id = "challenge",
    responses((status = 200, body = agentwrit_protocol::wire::ChallengeResponse, description = "The nonce.")),
    extensions(("x-refusals" = json!(["rate_limited"]))),
))]
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

/// Says whether a token stands now, and shows its claims.
///
/// The answer is 200 whatever the token is. The audience is not checked, and nothing is audited.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/v1/token/validate", tag = "Tokens", operation_id = "validateToken",
    request_body = ValidateRequest,
    responses((
        status = 200, body = ValidateResponse, description = "The claims of the token, or that it does not stand.",
        example = json!({"valid": false, "error": "token is invalid or expired"}),
    )),
    extensions(("x-refusals" = json!(["invalid_request: token field is required", "unavailable"]))),
))]
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
    match broker.token_check().validate(token).await? {
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

/// Shows the state of the broker, always with 200.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/v1/health", tag = "Operations", operation_id = "health",
    responses((
        status = 200, body = agentwrit_protocol::wire::HealthResponse,
        description = "`db_connected` says whether a store on disk answers.",
    )),
))]
pub(in crate::http) async fn health(State(broker): State<AppState>) -> Response {
    reply(StatusCode::OK, &health::health(&broker))
}

/// Shows the keys that tokens are checked with: the one that signs first, then those that will sign or have signed.
///
/// It may be kept for as long as `Cache-Control` says: a new key is published at least twice that long before it signs.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/.well-known/jwks.json", tag = "Operations", operation_id = "jsonWebKeySet",
    responses(
        (status = 200, body = crate::http::openapi::JsonWebKeySet, description = "The key set."),
        (status = 304, description = "It is the one that `If-None-Match` names."),
    ),
))]
pub(in crate::http) async fn jwks(State(broker): State<AppState>, call: ApiRequest) -> Response {
    cached(&call.headers, &broker.tokens.keys.jwks(), broker.config.jwks_max_age())
}

/// Shows where the keys of the issuer are.
///
/// It is there only when `AA_ISSUER` is an https URL.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/.well-known/openid-configuration", tag = "Operations", operation_id = "openidConfiguration",
    responses(
        (status = 200, body = Discovery, description = "The discovery document."),
        (status = 304, description = "It is the one that `If-None-Match` names."),
    ),
    extensions(("x-refusals" = json!([
        "not_found: there is no discovery document: AA_ISSUER is not an https URL",
    ]))),
))]
pub(in crate::http) async fn discovery(State(broker): State<AppState>, call: ApiRequest) -> Result<Response, ApiError> {
    let document = Discovery::of(&broker.config.issuer).ok_or_else(|| {
        let detail = "there is no discovery document: AA_ISSUER is not an https URL";
        ApiError::new(ErrorCode::NotFound, detail)
    })?;
    Ok(cached(&call.headers, &document, broker.config.jwks_max_age()))
}

/// Shows this document.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/openapi.json", tag = "Operations", operation_id = "openapi",
    responses((status = 200, body = Object, content_type = "application/json", description = "OpenAPI 3.1.")),
))]
pub(in crate::http) async fn openapi() -> Response {
    const DOCUMENT: &str = include_str!("../../../../docs/openapi.json");
    (
        [(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))],
        DOCUMENT,
    )
        .into_response()
}
