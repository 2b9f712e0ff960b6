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

/// Registers an agent.
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
