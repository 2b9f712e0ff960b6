//! What attestation counts.

use agentwrit_protocol::k8s::DenialKind;
use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts};

/// Counters of attestation; the labels are closed sets.
#[derive(Debug, Clone)]
pub struct AttestMetrics {
    launches: IntCounterVec,
    api: HistogramVec,
}

/// A question to the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ApiCall {
    /// `TokenReview`.
    Review,
    /// GET of a pod.
    Pod,
}

impl AttestMetrics {
    /// Counters that are not registered yet: that is for the broker, with [`AttestMetrics::collectors`].
    ///
    /// # Errors
    /// When a metric is defined wrongly.
    pub fn new() -> prometheus::Result<Self> {
        Ok(Self {
            launches: IntCounterVec::new(
                Opts::new(
                    "attestations_total",
                    "Launches of pods: launched, unavailable, or the error_kind of the refusal",
                ),
                &["outcome"],
            )?,
            api: HistogramVec::new(
                HistogramOpts::new(
                    "attestation_api_seconds",
                    "Time until the Kubernetes API server answered",
                ),
                &["call"],
            )?,
        })
    }

    /// For the registry.
    pub fn collectors(&self) -> [Box<dyn Collector>; 2] {
        [Box::new(self.launches.clone()), Box::new(self.api.clone())]
    }

    /// A pod got its launch token.
    pub fn launched(&self) {
        self.launches.with_label_values(&["launched"]).inc();
    }

    /// The API server gave no usable answer.
    pub fn unavailable(&self) {
        self.launches.with_label_values(&["unavailable"]).inc();
    }

    /// A caller was refused; the word is that of a [`DenialKind`].
    pub fn denied(&self, error_kind: &'static str) {
        let known = DenialKind::ALL.iter().any(|kind| kind.as_str() == error_kind);
        self.launches
            .with_label_values(&[if known { error_kind } else { "other" }])
            .inc();
    }

    pub(crate) fn answered(&self, call: ApiCall, seconds: f64) {
        let label = match call {
            ApiCall::Review => "review",
            ApiCall::Pod => "pod",
        };
        self.api.with_label_values(&[label]).observe(seconds);
    }
}
