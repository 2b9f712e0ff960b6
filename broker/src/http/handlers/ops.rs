//! Probes and metrics.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use crate::http::handlers::health;
use crate::http::{ApiError, AppState, reply};
use crate::metrics::CONTENT_TYPE;

/// Says whether the process can still do its work without a restart.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/livez", tag = "Operations", operation_id = "livez",
    responses(
        (status = 200, body = crate::http::openapi::Liveness, description = "It can."),
        (
            status = 503, body = crate::http::openapi::Liveness, description = "It can't.",
            example = json!({"status": "dead"}),
        ),
    ),
))]
pub(in crate::http) async fn livez(State(broker): State<AppState>) -> Response {
    let (status, word) = if broker.store.alive() {
        (StatusCode::OK, "alive")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "dead")
    };
    reply(status, &serde_json::json!({ "status": word }))
}

/// Says whether the broker can do all of its work now.
///
/// An answer of 503 names what is failing. The answer is 200 while only the disk is full: a Service that sends nothing
/// to the broker would keep revocations away too.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/readyz", tag = "Operations", operation_id = "readyz",
    responses(
        (status = 200, body = health::Readiness, description = "It can, perhaps with exceptions."),
        (
            status = 503, body = health::Readiness, description = "It can't.",
            example = json!({
                "status": "unready",
                "version": "0.1.0",
                "failing": [{"dependency": "store", "reason": "unreachable"}],
            }),
        ),
    ),
))]
pub(in crate::http) async fn readyz(State(broker): State<AppState>) -> Response {
    let readiness = health::readiness(&broker);
    let status = if readiness.serves() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    reply(status, &readiness)
}

/// Shows the metrics in the text format of Prometheus.
///
/// The ops listener serves them too, as `GET /metrics`.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/v1/metrics", tag = "Operations", operation_id = "metrics",
    responses((
        status = 200, body = String, content_type = "text/plain", description = "The metrics.",
        example = "# TYPE agentwrit_active_agents gauge\nagentwrit_active_agents 3\n",
    )),
    extensions(("x-refusals" = json!(["internal_error: metrics can't be encoded"]))),
))]
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
