//! Admin login and launch tokens.

use agentwrit_protocol::wire::{
    AdminAuthRequest, AdminAuthResponse, LaunchPolicy, LaunchTokenRequest, LaunchTokenResponse,
};
use agentwrit_protocol::{ErrorCode, Sensitive};
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use crate::config::AdminAuth;
use crate::http::{ApiError, AppState, Call, Guard, authenticate, limited, reply};
use crate::service::admin::{self, AdminError};
use crate::service::launch::{self, LaunchError};
use crate::timestamp::rfc3339_seconds;

/// `POST /v1/admin/auth`.
pub(in crate::http) async fn auth(State(broker): State<AppState>, call: Call) -> Result<Response, ApiError> {
    if !broker.limits.admin_auth(call.source) {
        return Err(limited(&broker, &call));
    }
    if matches!(broker.config.admin, AdminAuth::Off) {
        return Err(AdminError::Off.into());
    }
    let request: AdminAuthRequest = call.strict_json()?;
    let filled = |secret: &Option<Sensitive>| secret.as_ref().is_some_and(|secret| !secret.expose().is_empty());
    if request.client_id.is_some_and(|id| !id.is_empty()) || filled(&request.client_secret) {
        return Err(ApiError::invalid(
            "client_id and client_secret are not accepted here: send {\"secret\": \"...\"}",
        ));
    }
    let secret = request.secret.filter(|secret| !secret.expose().is_empty());
    let secret = secret.ok_or_else(|| ApiError::invalid("secret is required"))?;
    let issued = admin::login(&broker, secret, call.source).await?;
    let answer = AdminAuthResponse {
        access_token: issued.token,
        expires_in: issued.expires_in,
        token_type: "Bearer".to_owned(),
    };
    Ok(reply(StatusCode::OK, &answer))
}

impl From<AdminError> for ApiError {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Off => Self::new(ErrorCode::Forbidden, "admin login is off (AA_ADMIN_AUTH)"),
            AdminError::Credentials | AdminError::Weak => Self::unauthorized(error.to_string()),
            AdminError::Store(error) => error.into(),
            AdminError::Entropy(_) | AdminError::Sign(_) | AdminError::Interrupted => Self::internal("login failed"),
        }
    }
}

/// `POST /v1/admin/launch-tokens`.
pub(in crate::http) async fn launch_tokens(State(broker): State<AppState>, call: Call) -> Result<Response, ApiError> {
    let bearer = authenticate(&broker, &call, Guard::admin("admin:launch-tokens:*")).await?;
    let request: LaunchTokenRequest = call.json()?;
    let launched = launch::create(&broker, request, &bearer.claims.sub, &call.source_text()).await?;
    let answer = LaunchTokenResponse {
        launch_token: launched.token,
        expires_at: rfc3339_seconds(launched.stored.expires_at.div_euclid(1000)),
        policy: LaunchPolicy {
            allowed_scope: launched.stored.allowed_scope.to_strings(),
            max_ttl: launched.stored.max_ttl,
        },
    };
    Ok(reply(StatusCode::CREATED, &answer))
}

impl From<LaunchError> for ApiError {
    fn from(error: LaunchError) -> Self {
        let code = match error {
            LaunchError::Scope(_) => ErrorCode::InvalidScopeFormat,
            LaunchError::Reserved(_) => ErrorCode::Forbidden,
            LaunchError::Name | LaunchError::Empty => ErrorCode::InvalidRequest,
            LaunchError::Life => ErrorCode::InvalidTtl,
            LaunchError::Store(error) => return error.into(),
            LaunchError::Entropy(error) => return error.into(),
        };
        Self::new(code, error.to_string())
    }
}
