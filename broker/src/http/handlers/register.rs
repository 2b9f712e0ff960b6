//! `POST /v1/register`.

use agentwrit_protocol::ErrorCode;
use agentwrit_protocol::wire::{RegisterRequest, RegisterResponse};
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use crate::http::{ApiError, ApiRequest, AppState, reply};
use crate::service::error::Internal;
use crate::service::session::register::RegisterError;
use crate::service::session::registration::RegistrationDenial;

#[cfg(feature = "openapi")]
const REFUSALS: [&str; 23] = [
    "rate_limited",
    "invalid_request: orch_id or task_id can't be a segment of a SPIFFE id",
    "invalid_request: requested_scope must be at most 32768 bytes of JSON",
    "invalid_request: missing required field: launch_token",
    "invalid_scope_format: requested_scope has 1001 items: at most 1000 are allowed",
    "invalid_scope_format: requested_scope[0] is 8193 bytes long: at most 8192 are allowed",
    "unauthorized: launch token expired",
    "unauthorized: launch token already consumed",
    "unauthorized: nonce not found or expired",
    "unauthorized: nonce already consumed",
    "unauthorized: invalid Ed25519 public key: base64 decode failed",
    "unauthorized: invalid Ed25519 public key: wrong key size",
    "unauthorized: invalid Ed25519 public key: weak key",
    "unauthorized: nonce signature verification failed: base64 decode failed",
    "unauthorized: nonce signature verification failed",
    "unauthorized: launch token not found",
    "forbidden: key, orch_id or task_id are not those of the pod that the launch token was made for",
    "revoked: a person revoked the pod's agent",
    "suspended: the AgentApp or LaunchToken is suspended",
    "policy_not_ready: the policy is withdrawn until it is repaired",
    "policy_changed: the policy changed since the launch",
    "max_active_agents: the LaunchToken's limit of live agents is reached",
    "scope_violation: requested scope exceeds allowed scope",
];

/// Exchanges a launch token, a nonce and a key for an identity and a token.
///
/// The signature is Ed25519 over the nonce, decoded from hexadecimal. A refusal of the requested scope uses up neither
/// the launch token nor the nonce; a refusal of the key or the signature uses up the nonce. An address may ask
/// `AA_REGISTER_RATE` times a second.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/v1/register", tag = "Agents", operation_id = "register",
    request_body = RegisterRequest,
    responses((status = 200, body = RegisterResponse, description = "The agent is registered.")),
    extensions(("x-refusals" = json!([REFUSALS, "unavailable"]))),
))]
pub(in crate::http) async fn register(State(broker): State<AppState>, call: ApiRequest) -> Result<Response, ApiError> {
    broker.rate_limits().register(call.origin(&call.path()))?;
    let request: RegisterRequest = call.json()?;
    let (agent_id, issued) = broker.registrar().register(request, call.source).await?;
    let answer = RegisterResponse {
        agent_id,
        access_token: issued.token,
        expires_in: issued.expires_in,
    };
    Ok(reply(StatusCode::OK, &answer))
}

impl From<RegisterError> for ApiError {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::Missing(_) | RegisterError::Segment(_) | RegisterError::ScopeLength => {
                Self::invalid(error.to_string())
            }
            RegisterError::ScopeLimits(error) => Self::new(ErrorCode::InvalidScopeFormat, error.to_string()),
            RegisterError::Denied(denial) => {
                let answer = Self::new(denial.code(), denial.to_string());
                if denial == RegistrationDenial::Scope {
                    answer.hint("requested scope must be a subset of allowed scope")
                } else {
                    answer
                }
            }
            RegisterError::Internal(Internal::Store(error)) => error.into(),
            RegisterError::Internal(_) => Self::internal("registration failed"),
        }
    }
}
