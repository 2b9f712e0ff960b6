//! `POST /v1/register`.

use agentwrit_protocol::wire::{RegisterRequest, RegisterResponse};
use agentwrit_protocol::{ErrorCode, Sensitive};
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use crate::http::{ApiError, ApiRequest, AppState, limited, reply};
use crate::service::register::{self, Denial, RegisterError, Registration};

fn complete(request: RegisterRequest) -> Result<Registration, ApiError> {
    let missing = |name: &str| ApiError::invalid(format!("missing required field: {name}"));
    let text = |value: Option<String>, name: &str| value.filter(|text| !text.is_empty()).ok_or_else(|| missing(name));
    let registration = Registration {
        launch_token: request
            .launch_token
            .filter(|token: &Sensitive| !token.expose().is_empty())
            .ok_or_else(|| missing("launch_token"))?,
        nonce: text(request.nonce, "nonce")?,
        public_key: text(request.public_key, "public_key")?,
        signature: text(request.signature, "signature")?,
        orch_id: text(request.orch_id, "orch_id")?,
        task_id: text(request.task_id, "task_id")?,
        requested_scope: request.requested_scope.unwrap_or_default(),
        requested_ttl: request.requested_ttl,
    };
    if registration.requested_scope.is_empty() {
        return Err(missing("requested_scope"));
    }
    Ok(registration)
}

/// Registers an agent.
pub(in crate::http) async fn register(State(broker): State<AppState>, call: ApiRequest) -> Result<Response, ApiError> {
    if !broker.limits.register(call.source) {
        return Err(limited(&broker, &call));
    }
    let request: RegisterRequest = call.json()?;
    let wanted = complete(request).inspect_err(|_| {
        broker.metrics.registrations.with_label_values(&["failure"]).inc();
    })?;
    let (agent_id, issued) = register::register(&broker, wanted, call.source).await?;
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
            RegisterError::Segment(_) | RegisterError::ScopeLength => Self::invalid(error.to_string()),
            RegisterError::ScopeLimits(error) => Self::new(ErrorCode::InvalidScopeFormat, error.to_string()),
            RegisterError::Denied(denial) => {
                let answer = Self::new(denial.code(), denial.to_string());
                if denial == Denial::Scope {
                    answer.hint("requested scope must be a subset of allowed scope")
                } else {
                    answer
                }
            }
            RegisterError::Store(error) => error.into(),
            RegisterError::Entropy(_) | RegisterError::Sign(_) => Self::internal("registration failed"),
        }
    }
}
