//! Launch tokens for pods.

use agentwrit_protocol::k8s::PodLaunchRequest;
use axum::extract::State;
use http::StatusCode;

use super::{Answer, K8s, body, incoming};
use crate::http::{ApiRequest, reply};

/// `POST /v1/k8s/launch-tokens`.
pub(super) async fn launch(State(k8s): State<K8s>, call: ApiRequest) -> Answer {
    let request = || body::<PodLaunchRequest>(&call);
    let launched = k8s.callers().launch(incoming(&call), request).await?;
    Ok(reply(StatusCode::CREATED, &launched))
}
