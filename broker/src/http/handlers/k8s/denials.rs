//! The newest refusals of pods.

use axum::extract::State;
use http::StatusCode;

use super::{Answer, K8s};
use crate::http::query::{QueryEndpoint, parameters};
use crate::http::{ApiRequest, reply};
use crate::service::k8s::denials;

/// Lists recent refusals, by pod.
///
/// It is for the controller, which writes them as Events.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/v1/k8s/denials", tag = "Kubernetes", operation_id = "listDenials",
    security(("serviceAccount" = [])),
    params(crate::http::openapi::DenialsQuery),
    responses((
        status = 200, body = agentwrit_protocol::k8s::DenialsResponse,
        description = "The refusals, the oldest first.",
    )),
    extensions(("x-refusals" = json!([
        "invalid_request: query parameter after must be a cursor: a whole number, 0 or more",
    ]))),
))]
pub(super) async fn list(State(k8s): State<K8s>, call: ApiRequest) -> Answer {
    k8s.controller(&call).await?;
    let page = denials::read(&k8s.broker.store, &parameters(call.query(), QueryEndpoint::Denials)).await?;
    Ok(reply(StatusCode::OK, &page))
}
