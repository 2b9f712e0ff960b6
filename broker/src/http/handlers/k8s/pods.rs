//! The end of a pod, and of its quarantine.

use axum::extract::{Path, State};
use http::StatusCode;

use super::{Answer, K8s, body};
use crate::http::{ApiRequest, authorize, reply};
use crate::service::authorize::Requirement;
use crate::service::k8s::pods;

/// `POST /v1/k8s/pods/{uid}/ended`.
pub(super) async fn end(State(k8s): State<K8s>, Path(uid): Path<String>, call: ApiRequest) -> Answer {
    let writer = k8s.controller(&call).await?;
    let revoked = pods::end(&k8s.broker.store, uid, || body(&call), writer).await?;
    Ok(reply(StatusCode::OK, &revoked))
}

/// `POST /v1/k8s/pods/{uid}/release`.
pub(super) async fn release(State(k8s): State<K8s>, Path(uid): Path<String>, call: ApiRequest) -> Answer {
    let person = authorize(&k8s.broker, &call, Requirement::admin("admin:revoke:*")).await?;
    let released = pods::release(&k8s.broker.store, uid, &person.claims.sub, call.source).await?;
    Ok(reply(StatusCode::OK, &released))
}
