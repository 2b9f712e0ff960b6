//! The ops listener: `/livez`, `/readyz`, `/metrics`, plain HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use parking_lot::Mutex;

use crate::metrics::Metrics;

/// What has to be there before the webhook may be asked.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    certificate: AtomicBool,
    caches: AtomicBool,
    ca_bundle: AtomicBool,
    /// Why what cert-manager has issued for the webhook can't be used.
    not_issued: Mutex<Option<String>>,
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

    /// Why what cert-manager has issued for the webhook can't be used, if it can't be.
    pub(crate) fn issued(&self, why: Option<String>) {
        *self.not_issued.lock() = why;
    }

    /// What is missing, in a sentence, if anything is. A webhook that has a certificate serves, whatever becomes of the next.
    pub(crate) fn sentence(&self) -> Option<String> {
        let missing = self.missing();
        if missing.is_empty() {
            return None;
        }
        let mut sentence = format!("waiting for: {}\n", missing.join(", "));
        if let Some(why) = &*self.not_issued.lock() {
            sentence.push_str(why);
            sentence.push('\n');
        }
        Some(sentence)
    }

    /// What is missing, in words.
    fn missing(&self) -> Vec<&'static str> {
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
    match ops.readiness.sentence() {
        None => (StatusCode::OK, "ok\n".into()),
        Some(sentence) => (StatusCode::SERVICE_UNAVAILABLE, sentence),
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
        readiness.issued(Some("ca_missing: who says so".to_owned()));
        let told = readiness.sentence();
        assert_eq!(
            told.as_deref(),
            Some("waiting for: ca_bundle\nca_missing: who says so\n")
        );
        readiness.ca_bundle(true);
        assert_eq!(readiness.sentence(), None, "the one that is served is good");
    }
}
