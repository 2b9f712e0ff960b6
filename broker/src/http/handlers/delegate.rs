//! Delegation.

use agentwrit_protocol::ErrorCode;
use agentwrit_protocol::wire::{DelegateRequest, DelegateResponse};
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use crate::http::{ApiError, ApiRequest, AppState, authorize, reply};
use crate::service::authorize::Requirement;
use crate::service::error::Internal;
use crate::service::session::delegate::DelegateError;
use crate::service::session::delegate_command::{DelegationDenial, RequestedDelegation};

/// Passes part of the bearer's authority on to another agent.
///
/// A chain has at most five hops. The new token never outlives the bearer, and ends with it. A `ttl` of 0 or less
/// means 60, and one over `AA_MAX_TTL` means that.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/v1/delegate", tag = "Agents", operation_id = "delegate",
    security(("bearer" = [])),
    request_body = DelegateRequest,
    responses((status = 200, body = DelegateResponse, description = "The delegate's token, and the chain within it.")),
    extensions(("x-refusals" = json!([
        "rate_limited",
        "rate_limited: 256 delegations stand under this session, which is the most: wait until some expire, or release \
         them",
        "invalid_request: delegate_to is required",
        "invalid_request: scope and delegation chain must be at most 32768 bytes of JSON each: ask for fewer scopes",
        "invalid_request: scope is required and must not be empty",
        "invalid_scope_format: scope has 1001 items: at most 1000 are allowed",
        "invalid_scope_format: scope[0] is 8193 bytes long: at most 8192 are allowed",
        "insufficient_scope: only tokens of agents can be renewed or delegated",
        "scope_violation: delegation depth limit exceeded",
        "scope_violation: delegated scope exceeds delegator scope",
        "scope_violation: delegated scope exceeds the ceiling of a namespace that it comes from or goes to",
        "not_found: delegate agent not found",
    ]))),
))]
pub(in crate::http) async fn delegate(State(broker): State<AppState>, call: ApiRequest) -> Result<Response, ApiError> {
    let bearer = authorize(&broker, &call, Requirement::AGENT).await?;
    let request: DelegateRequest = call.json()?;
    let wanted = RequestedDelegation {
        delegate_to: request
            .delegate_to
            .filter(|agent| !agent.is_empty())
            .ok_or_else(|| ApiError::invalid("delegate_to is required"))?,
        scope: request
            .scope
            .filter(|scope| !scope.is_empty())
            .ok_or_else(|| ApiError::invalid("scope is required and must not be empty"))?,
        ttl: request.ttl,
    };
    let delegated = broker
        .delegator()
        .delegate(&bearer.claims, wanted, call.origin(&call.path()))
        .await?;
    let answer = DelegateResponse {
        access_token: delegated.issued.token,
        expires_in: delegated.issued.expires_in,
        delegation_chain: delegated.chain,
    };
    Ok(reply(StatusCode::OK, &answer))
}

impl From<DelegateError> for ApiError {
    fn from(error: DelegateError) -> Self {
        match error {
            DelegateError::Internal(Internal::Sign(_)) => Self::internal("delegation failed"),
            DelegateError::Internal(error) => error.into(),
            DelegateError::TooLong => Self::invalid(error.to_string()),
            DelegateError::ScopeLimits(_) => Self::new(ErrorCode::InvalidScopeFormat, error.to_string()),
            DelegateError::Denied(denial) => denial.into(),
        }
    }
}

impl From<DelegationDenial> for ApiError {
    fn from(denial: DelegationDenial) -> Self {
        let with = |code| Self::new(code, denial.to_string());
        match denial {
            DelegationDenial::Revoked(_) => with(ErrorCode::InsufficientScope),
            DelegationDenial::TooDeep => with(ErrorCode::ScopeViolation),
            DelegationDenial::Scope => with(ErrorCode::ScopeViolation)
                .hint("each scope must be covered by one of the delegating token's scopes"),
            DelegationDenial::Ceiling => with(ErrorCode::ScopeViolation)
                .hint("the platform's team limits each namespace by the chart's value scopeCeilings"),
            DelegationDenial::Unknown => with(ErrorCode::NotFound),
            DelegationDenial::Rate(limited) => limited.into(),
            DelegationDenial::Open(_) | DelegationDenial::OpenBelow(_) => with(ErrorCode::RateLimited).retry_after(1),
        }
    }
}
