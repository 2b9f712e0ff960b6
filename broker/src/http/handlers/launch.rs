//! Launch tokens: one handler, two requirements.

use agentwrit_protocol::ErrorCode;
use agentwrit_protocol::timestamp::rfc3339_seconds;
use agentwrit_protocol::wire::{LaunchPolicy, LaunchTokenRequest, LaunchTokenResponse};
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use crate::http::{ApiError, ApiRequest, AppState, authorize, reply};
use crate::service::authorize::Requirement;
use crate::service::launch::LaunchError;

/// `POST /v1/admin/launch-tokens`.
pub(in crate::http) async fn admin(State(broker): State<AppState>, call: ApiRequest) -> Result<Response, ApiError> {
    launch(broker, call, Requirement::admin("admin:launch-tokens:*")).await
}

/// `POST /v1/app/launch-tokens`.
pub(in crate::http) async fn app(State(broker): State<AppState>, call: ApiRequest) -> Result<Response, ApiError> {
    launch(broker, call, Requirement::app("app:launch-tokens:*")).await
}

async fn launch(broker: AppState, call: ApiRequest, requirement: Requirement) -> Result<Response, ApiError> {
    let bearer = authorize(&broker, &call, requirement).await?;
    let request: LaunchTokenRequest = call.json()?;
    let launched = broker
        .launch_tokens()
        .create(request, &bearer.claims.sub, &call.source_text())
        .await?;
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
            LaunchError::UnknownApp | LaunchError::Ceiling(_) | LaunchError::Reserved(_) => ErrorCode::Forbidden,
            LaunchError::Scope(_) | LaunchError::ScopeLimits(_) => ErrorCode::InvalidScopeFormat,
            LaunchError::ScopeLength | LaunchError::Name | LaunchError::NameLength(_) | LaunchError::Empty => {
                ErrorCode::InvalidRequest
            }
            LaunchError::Life => ErrorCode::InvalidTtl,
            LaunchError::Internal(error) => return error.into(),
        };
        let answer = Self::new(code, error.to_string());
        if matches!(error, LaunchError::Ceiling(_)) {
            return answer.hint("allowed_scope must be a subset of the app's scopes");
        }
        answer
    }
}
