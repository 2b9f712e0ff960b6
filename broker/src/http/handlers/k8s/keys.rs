//! The signing keys, for the controller, which keeps their Secret.

use axum::extract::State;
use http::StatusCode;

use super::{Answer, K8s};
use crate::http::handlers::keys::all;
use crate::http::{ApiRequest, reply};

/// Lists every signing key, in the order in which they were published.
///
/// It is for the controller, which adds a key to the Secret when one was asked for, and removes those that are retired.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/v1/k8s/signing-keys", tag = "Kubernetes", operation_id = "listSigningKeysForController",
    security(("serviceAccount" = [])),
    responses((
        status = 200, body = agentwrit_protocol::signing_keys::wire::SigningKeysResponse, description = "The keys.",
    )),
))]
pub(super) async fn list(State(k8s): State<K8s>, call: ApiRequest) -> Answer {
    k8s.controller(&call).await?;
    Ok(reply(StatusCode::OK, &all(&k8s.broker).await?))
}
