//! Delegation.

use agentwrit_protocol::ErrorCode;
use agentwrit_protocol::wire::{DelegateRequest, DelegateResponse};
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use crate::http::{ApiError, ApiRequest, AppState, authorize, reply};
use crate::service::authorize::Requirement;
use crate::service::session::delegate::{self, DelegateError, Wanted};

/// `POST /v1/delegate`.
pub(in crate::http) async fn delegate(State(broker): State<AppState>, call: ApiRequest) -> Result<Response, ApiError> {
    let bearer = authorize(&broker, &call, Requirement::AGENT).await?;
    let request: DelegateRequest = call.json()?;
    let wanted = Wanted {
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
    let delegated = delegate::delegate(&broker, &bearer.claims, wanted, call.origin(&call.path())).await?;
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
            DelegateError::Store(error) => error.into(),
            DelegateError::Entropy(error) => error.into(),
            DelegateError::Sign(_) => Self::internal("delegation failed"),
            DelegateError::Scope => Self::new(ErrorCode::ScopeViolation, error.to_string())
                .hint("each scope must be covered by one of the delegating token's scopes"),
            DelegateError::Rate(seconds) => Self::rate_limited().retry_after(seconds),
            DelegateError::Open(_) | DelegateError::OpenBelow(_) => {
                Self::new(error.code(), error.to_string()).retry_after(1)
            }
            other => Self::new(other.code(), other.to_string()),
        }
    }
}
