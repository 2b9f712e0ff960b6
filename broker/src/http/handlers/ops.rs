//! Probes and metrics.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use crate::http::handlers::health;
use crate::http::{ApiError, AppState, reply};
use crate::metrics::CONTENT_TYPE;

/// `GET /livez`: the process answers, and can still do its work some day without a restart.
pub(in crate::http) async fn livez(State(broker): State<AppState>) -> Response {
    let (status, word) = if broker.store.alive() {
        (StatusCode::OK, "alive")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "dead")
    };
    reply(status, &serde_json::json!({ "status": word }))
}

/// `GET /readyz`: 503 names what is failing. 200 while only the disk is full: a Service that sends nothing to the broker
/// would keep revocations away too.
pub(in crate::http) async fn readyz(State(broker): State<AppState>) -> Response {
    let readiness = health::readiness(&broker);
    let status = if readiness.serves() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    reply(status, &readiness)
}

/// `GET /v1/metrics` and `GET /metrics`.
pub(in crate::http) async fn metrics(State(broker): State<AppState>) -> Result<Response, ApiError> {
    broker
        .metrics
        .update_live_agents(broker.clock.as_ref(), &broker.store)
        .await;
    let text = broker.metrics.render().map_err(|error| {
        tracing::error!(target: "OPS", component = "Metrics", error = %error, "metrics can't be encoded");
        ApiError::internal("metrics can't be encoded")
    })?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}
