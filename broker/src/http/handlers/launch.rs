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

#[cfg(feature = "openapi")]
const REFUSALS: [&str; 7] = [
    "invalid_request: allowed_scope must be at most 32768 bytes of JSON",
    "invalid_request: agent_name is required",
    "invalid_request: agent_name of 20000 characters is too long: it must be at most 16384",
    "invalid_request: allowed_scope must not be empty",
    "invalid_scope_format: allowed_scope has 1001 items: at most 1000 are allowed",
    "invalid_scope_format: allowed_scope[0] is 8193 bytes long: at most 8192 are allowed",
    "invalid_ttl: ttl must be at most 86400 seconds",
];

/// Makes a launch token for one agent.
///
/// It is the ceiling of what the agent may ask for. A `max_ttl` of 0 or less means `AA_DEFAULT_TTL`, and one over
/// `AA_MAX_TTL` means that. A `ttl` of 0 or less means 30.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/v1/admin/launch-tokens", tag = "Admin", operation_id = "createLaunchToken",
    security(("bearer" = ["admin:launch-tokens:*"])),
    request_body = LaunchTokenRequest,
    responses((
        status = 201, body = LaunchTokenResponse,
        description = "The launch token. It is told this once.",
    )),
    extensions(("x-refusals" = json!([
        REFUSALS,
        "invalid_scope_format: scope \"read:orders\" is not of the form action:resource:identifier with three \
         non-empty parts",
        "forbidden: scope \"admin:revoke:*\" is reserved: agents can't hold admin: and app: scopes",
    ]))),
))]
pub(in crate::http) async fn admin(State(broker): State<AppState>, call: ApiRequest) -> Result<Response, ApiError> {
    launch(broker, call, Requirement::admin("admin:launch-tokens:*")).await
}

/// Makes a launch token for one agent of the app.
///
/// As `POST /v1/admin/launch-tokens`, and never for more than the scopes of the app.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/v1/app/launch-tokens", tag = "Apps", operation_id = "createAppLaunchToken",
    security(("bearer" = ["app:launch-tokens:*"])),
    request_body = LaunchTokenRequest,
    responses((
        status = 201, body = LaunchTokenResponse,
        description = "The launch token. It is told this once.",
    )),
    extensions(("x-refusals" = json!([
        REFUSALS,
        "forbidden: app not found",
        "forbidden: the app is suspended",
        "forbidden: allowed_scope exceeds the app's scope ceiling; allowed scopes: read:orders:*",
    ]))),
))]
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
        expires_at: rfc3339_seconds(launched.stored.expires_at.second()),
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
            LaunchError::UnknownApp
            | LaunchError::SuspendedApp
            | LaunchError::Ceiling(_)
            | LaunchError::NamespaceCeiling(_) => ErrorCode::Forbidden,
            LaunchError::Scopes(ref error) => error.code(),
            LaunchError::Name | LaunchError::NameLength(_) | LaunchError::Empty => ErrorCode::InvalidRequest,
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
