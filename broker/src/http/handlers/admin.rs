//! Admin login.

use agentwrit_json::{self as json, Raw, Trailing};
use agentwrit_protocol::ErrorCode;
use agentwrit_protocol::wire::{AdminAuthRequest, AdminAuthResponse};
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;

use crate::http::{ApiError, ApiRequest, AppState, reply};
use crate::service::admin::AdminError;
use crate::service::error::Internal;

/// Exchanges the admin secret for a token.
///
/// An address may ask 5 times a second, and 10 times at once. Every request counts, before anything else is looked at.
/// Nothing but white space may follow the first value of the body.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/v1/admin/auth", tag = "Admin", operation_id = "adminAuth",
    request_body = AdminAuthRequest,
    responses((
        status = 200, body = AdminAuthResponse,
        description = "A token with the scopes `admin:launch-tokens:*`, `admin:revoke:*` and `admin:audit:*`.",
    )),
    extensions(("x-refusals" = json!([
        "rate_limited",
        "invalid_request: client_id and client_secret are not accepted here: send {\"secret\": \"...\"}",
        "invalid_request: secret is required",
        "unauthorized: invalid credentials",
        "forbidden: admin login is off (AA_ADMIN_AUTH)",
        "unavailable",
    ]))),
))]
pub(in crate::http) async fn auth(State(broker): State<AppState>, call: ApiRequest) -> Result<Response, ApiError> {
    broker.rate_limits().admin_auth(call.origin(&call.path()))?;
    broker.admin_login().check_enabled()?;
    let legacy = json::read::<Legacy<'_>>(&call.body, Trailing::Ignored);
    if legacy.is_ok_and(|legacy| legacy.is_filled()) {
        return Err(ApiError::invalid(
            "client_id and client_secret are not accepted here: send {\"secret\": \"...\"}",
        ));
    }
    let request: AdminAuthRequest = call.strict_json()?;
    let secret = request.secret.filter(|secret| !secret.expose().is_empty());
    let secret = secret.ok_or_else(|| ApiError::invalid("secret is required"))?;
    let issued = broker.admin_login().login(secret, call.source).await?;
    let answer = AdminAuthResponse {
        access_token: issued.token,
        expires_in: issued.expires_in,
        token_type: "Bearer".to_owned(),
    };
    Ok(reply(StatusCode::OK, &answer))
}

/// What the reference took once. It is looked at before the rest of the body: whoever sends it hears what to send.
#[derive(Deserialize)]
struct Legacy<'a> {
    #[serde(borrow)]
    client_id: Option<Raw<'a>>,
    #[serde(borrow)]
    client_secret: Option<Raw<'a>>,
}

impl Legacy<'_> {
    fn is_filled(&self) -> bool {
        [self.client_id, self.client_secret]
            .into_iter()
            .flatten()
            .any(Raw::is_filled_text)
    }
}

impl From<AdminError> for ApiError {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Off => Self::new(ErrorCode::Forbidden, "admin login is off (AA_ADMIN_AUTH)"),
            AdminError::Credentials | AdminError::Weak => Self::unauthorized(error.to_string()),
            AdminError::Internal(Internal::Store(error)) => error.into(),
            AdminError::Secret(error) => error.into(),
            AdminError::Internal(_) => Self::internal("login failed"),
        }
    }
}
