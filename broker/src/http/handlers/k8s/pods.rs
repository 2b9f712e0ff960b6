//! The end of a pod, and of its quarantine.

use axum::extract::{Path, State};
use http::StatusCode;

use super::{Answer, K8s, body};
use crate::http::{ApiRequest, authorize_actor, reply};
use crate::service::authorize::Requirement;
use crate::service::k8s::pods;

/// Ends all authority of a pod.
///
/// It is for the controller. The UID of the pod can't come back for 25 h.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/v1/k8s/pods/{uid}/ended", tag = "Kubernetes", operation_id = "podEnded",
    security(("serviceAccount" = [])),
    params(crate::http::openapi::PodPath),
    request_body = agentwrit_protocol::k8s::PodEndedRequest,
    responses((
        status = 200, body = agentwrit_protocol::k8s::RevokedResponse,
        description = "The sessions of the pod have ended.",
    )),
    extensions(("x-refusals" = json!([
        "invalid_request: reason must be 1 to 256 bytes without control characters",
    ]))),
))]
pub(super) async fn end(State(k8s): State<K8s>, Path(uid): Path<String>, call: ApiRequest) -> Answer {
    let actor = k8s.controller(&call).await?;
    let revoked = pods::end(&k8s.broker.store, uid.into(), || body(&call), actor).await?;
    Ok(reply(StatusCode::OK, &revoked))
}

/// Lifts the quarantine of a pod.
///
/// It is for people: a revocation that hits the agent of a pod quarantines the pod.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/v1/k8s/pods/{uid}/release", tag = "Kubernetes", operation_id = "releasePod",
    security(("bearer" = ["admin:revoke:*"])),
    params(crate::http::openapi::PodPath),
    responses((
        status = 200, body = agentwrit_protocol::k8s::PodReleaseResponse,
        description = "Whether the pod was in quarantine.",
    )),
    extensions(("x-refusals" = json!([
        "invalid_request: uid must be 1 to 128 characters of A-Z, a-z, 0-9, '-', '.' and '_'",
    ]))),
))]
pub(super) async fn release(State(k8s): State<K8s>, Path(uid): Path<String>, call: ApiRequest) -> Answer {
    let person = authorize_actor(&k8s.broker, &call, Requirement::admin("admin:revoke:*")).await?;
    let released = pods::release(&k8s.broker.store, uid.into(), person).await?;
    Ok(reply(StatusCode::OK, &released))
}
