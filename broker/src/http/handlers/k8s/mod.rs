//! The attestation and policy API under `/v1/k8s` (`docs/kubernetes-api.md` §4).

mod denials;
mod keys;
mod launch;
mod pods;
mod policies;

use std::sync::Arc;

use agentwrit_attest::{Attestation, AttestorError};
use agentwrit_json::{self as json, Trailing};
use agentwrit_protocol::ErrorCode;
use agentwrit_protocol::k8s::DenialKind;
use axum::Router;
use axum::response::Response;
use axum::routing::{get, post, put};
use serde::Deserialize;

use crate::http::{ApiError, ApiRequest, AppState, authorization};
use crate::service::actor::Actor;
use crate::service::k8s::callers::{Callers, Incoming};
use crate::service::k8s::error::{K8sError, WriteRefusal};
use crate::service::k8s::policy::input::InputError;

/// State of these handlers: attestation is there, or the routes aren't.
#[derive(Clone)]
struct K8s {
    broker: AppState,
    gate: Arc<Attestation>,
}

type Answer = Result<Response, ApiError>;

/// The endpoints of this API, for the `OpenAPI` document.
#[cfg(feature = "openapi")]
#[derive(utoipa::OpenApi)]
#[openapi(paths(
    policies::list,
    policies::put_all,
    policies::put_app,
    policies::delete_app,
    policies::put_launch_token,
    policies::delete_launch_token,
    policies::mark,
    launch::launch,
    pods::end,
    pods::release,
    denials::list,
    keys::list,
))]
pub(in crate::http) struct Documented;

/// The routes; none unless attestation is configured.
pub fn routes(broker: &AppState) -> Router<AppState> {
    let Some(gate) = broker.attestation.clone() else {
        return Router::new();
    };
    let state = K8s {
        broker: Arc::clone(broker),
        gate,
    };
    Router::new()
        .route("/v1/k8s/policies", get(policies::list).put(policies::put_all))
        .route(
            "/v1/k8s/policies/apps/{namespace}/{name}",
            put(policies::put_app).delete(policies::delete_app),
        )
        .route(
            "/v1/k8s/policies/launch-tokens/{namespace}/{name}",
            put(policies::put_launch_token).delete(policies::delete_launch_token),
        )
        .route("/v1/k8s/mark", post(policies::mark))
        .route("/v1/k8s/launch-tokens", post(launch::launch))
        .route("/v1/k8s/pods/{uid}/ended", post(pods::end))
        .route("/v1/k8s/pods/{uid}/release", post(pods::release))
        .route("/v1/k8s/denials", get(denials::list))
        .route("/v1/k8s/signing-keys", get(keys::list))
        .with_state(state)
}

impl K8s {
    fn callers(&self) -> Callers<'_> {
        self.broker.callers(&self.gate)
    }

    /// The controller, or a refusal.
    async fn controller(&self, call: &ApiRequest) -> Result<Actor, ApiError> {
        let actor = self.callers().controller(incoming(call)).await?;
        call.connection.trust();
        Ok(actor)
    }
}

fn incoming(call: &ApiRequest) -> Incoming<'_> {
    Incoming {
        authorization: authorization::text(&call.headers),
        source: call.source,
    }
}

/// A body of this API: what doesn't fit is named.
fn body<'a, T: Deserialize<'a>>(call: &'a ApiRequest) -> Result<T, InputError> {
    json::read(&call.body, Trailing::Ignored).map_err(|error| InputError::new(error.to_string()))
}

impl From<InputError> for ApiError {
    fn from(InputError { code, detail }: InputError) -> Self {
        Self::new(code, detail)
    }
}

impl From<K8sError> for ApiError {
    fn from(error: K8sError) -> Self {
        match error {
            K8sError::Input(error) | K8sError::Write(WriteRefusal::Input(error)) => Self::from(error),
            K8sError::Refused(refusal) => {
                let error = Self::new(refusal.code, refusal.detail);
                if refusal.code != ErrorCode::RateLimited {
                    return error;
                }
                let launches = refusal.error_kind == DenialKind::PodRateLimited.as_str();
                error.retry_after(if launches { 10 } else { 1 })
            }
            K8sError::Write(stale @ WriteRefusal::Stale { current_epoch }) => {
                Self::new(ErrorCode::StaleWriter, stale.to_string()).current_epoch(current_epoch)
            }
            K8sError::Write(beyond @ WriteRefusal::BeyondCeiling(_)) => {
                Self::new(ErrorCode::ScopeViolation, beyond.to_string())
            }
            K8sError::Write(removed @ WriteRefusal::Removed) => Self::new(ErrorCode::Conflict, removed.to_string()),
            K8sError::Write(full @ WriteRefusal::NoRoom) => {
                Self::new(ErrorCode::Unavailable, full.to_string()).retry_after(1)
            }
            K8sError::Attestor(error) => Self::from(error),
            K8sError::Internal(error) => Self::from(error),
        }
    }
}

impl From<AttestorError> for ApiError {
    /// Whatever the cause: not the caller's fault, so never a refusal.
    fn from(_: AttestorError) -> Self {
        Self::new(
            ErrorCode::Unavailable,
            "the Kubernetes API server could not be asked; nothing was changed",
        )
        .retry_after(1)
    }
}
