//! The ops listener: `/livez`, `/readyz`, `/metrics`, plain HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use crate::metrics::Metrics;

/// What has to be there before the webhook may be asked.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    certificate: AtomicBool,
    caches: AtomicBool,
    ca_bundle: AtomicBool,
}

impl Readiness {
    /// The webhook serves with a certificate of the CA.
    pub(crate) fn certificate(&self) {
        self.certificate.store(true, Ordering::SeqCst);
    }

    /// Namespaces and `LaunchToken`s are known.
    pub(crate) fn caches(&self) {
        self.caches.store(true, Ordering::SeqCst);
    }

    /// Whether the API server believes the webhook's certificate; whether that is new.
    pub(crate) fn ca_bundle(&self, is_believed: bool) -> bool {
        self.ca_bundle.swap(is_believed, Ordering::SeqCst) != is_believed
    }

    /// What is missing, in words.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let parts = [
            (&self.certificate, "webhook_certificate"),
            (&self.caches, "caches"),
            (&self.ca_bundle, "ca_bundle"),
        ];
        parts
            .iter()
            .filter(|(part, _)| !part.load(Ordering::SeqCst))
            .map(|(_, name)| *name)
            .collect()
    }
}

#[derive(Debug, Clone)]
struct Ops {
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
}

pub(crate) fn router(readiness: Arc<Readiness>, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(Ops { readiness, metrics })
}

async fn readyz(State(ops): State<Ops>) -> (StatusCode, String) {
    let missing = ops.readiness.missing();
    if missing.is_empty() {
        (StatusCode::OK, "ok\n".into())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("waiting for: {}\n", missing.join(", ")),
        )
    }
}

async fn metrics_text(State(ops): State<Ops>) -> Result<String, (StatusCode, String)> {
    ops.metrics
        .encode()
        .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_names_what_is_missing() {
        let readiness = Readiness::default();
        assert_eq!(readiness.missing(), ["webhook_certificate", "caches", "ca_bundle"]);
        readiness.caches();
        assert_eq!(readiness.missing(), ["webhook_certificate", "ca_bundle"]);
        readiness.certificate();
        assert!(readiness.ca_bundle(true) && !readiness.ca_bundle(true));
        assert!(readiness.missing().is_empty());
        assert!(readiness.ca_bundle(false), "it may be lost again");
        assert_eq!(readiness.missing(), ["ca_bundle"]);
    }
}
