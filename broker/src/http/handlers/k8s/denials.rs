//! The newest refusals of pods.

use axum::extract::State;
use http::StatusCode;

use super::{Answer, K8s};
use crate::http::query::{Reader, parameters};
use crate::http::{ApiRequest, reply};
use crate::service::k8s::denials;

/// `GET /v1/k8s/denials`.
pub(super) async fn list(State(k8s): State<K8s>, call: ApiRequest) -> Answer {
    k8s.controller(&call).await?;
    let page = denials::read(&k8s.broker.store, &parameters(call.query(), Reader::Denials)).await?;
    Ok(reply(StatusCode::OK, &page))
}
