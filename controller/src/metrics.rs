//! Metrics of the controller, on the ops listener.

use agentwrit_server::{ListenerMetrics, Usage};
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

/// Every metric, registered once.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub(crate) errors: IntCounterVec,
    /// Reconciliations by kind and result.
    pub(crate) reconciliations: IntCounterVec,
    /// How long a reconciliation took, seconds.
    pub(crate) reconcile_seconds: HistogramVec,
    /// Admission decisions by outcome.
    pub(crate) admissions: IntCounterVec,
    /// Refused pods by kind of refusal.
    pub(crate) refusals: IntCounterVec,
    /// Refused pods that were not logged, because there were too many.
    pub(crate) refusals_not_logged: IntCounter,
    /// Pods whose end was reported to the broker.
    pub(crate) pods_ended: IntCounter,
    /// Refusals of pods that became Events.
    pub(crate) denials: IntCounter,
    /// Silent pods that get no Event, because too many waited.
    pub(crate) silent_pods_dropped: IntCounter,
    /// Comparisons that found most of the broker's pods gone at once.
    pub(crate) safety_stops: IntCounter,
    /// 1 while this replica holds the Lease.
    pub(crate) leader: IntGauge,
    /// 1 while the broker answers.
    pub(crate) broker_up: IntGauge,
    /// When the CA expires, Unix seconds.
    pub(crate) ca_not_after: IntGauge,
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// When two metrics have one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let counters = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let metric = IntCounterVec::new(Opts::new(format!("agentwrit_controller_{name}"), help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let metric = IntCounter::new(format!("agentwrit_controller_{name}"), help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let metric = IntGauge::new(format!("agentwrit_controller_{name}"), help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let reconcile_seconds = HistogramVec::new(
            HistogramOpts::new("agentwrit_controller_reconcile_seconds", "Duration of a reconciliation")
                .buckets(vec![0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 15.0]),
            &["kind"],
        )?;
        registry.register(Box::new(reconcile_seconds.clone()))?;
        Ok(Self {
            errors: counters("errors_total", "Errors by category", &["category"])?,
            reconciliations: counters(
                "reconciliations_total",
                "Reconciliations by kind and result",
                &["kind", "result"],
            )?,
            reconcile_seconds,
            admissions: counters("admissions_total", "Admission decisions by outcome", &["outcome"])?,
            refusals: counters("admission_refusals_total", "Refused pods by kind of refusal", &["kind"])?,
            refusals_not_logged: counter(
                "admission_refusals_not_logged_total",
                "Refused pods that were not logged, because there were too many",
            )?,
            pods_ended: counter("pods_ended_total", "Pods whose end was reported to the broker")?,
            denials: counter("denials_total", "Refusals of pods that became Events")?,
            silent_pods_dropped: counter(
                "silent_pods_dropped_total",
                "Pods that are no longer followed until their sidecar is heard of, because too many were",
            )?,
            safety_stops: counter(
                "safety_stops_total",
                "Comparisons that found most of the broker's pods gone at once",
            )?,
            leader: gauge("leader", "1 while this replica holds the Lease")?,
            broker_up: gauge("broker_up", "1 while the broker answers")?,
            ca_not_after: gauge("ca_not_after_seconds", "When the CA expires, Unix seconds")?,
            registry,
        })
    }

    /// Adds the metrics of listeners.
    ///
    /// Fails when they are there already.
    pub(crate) fn register_listeners(&self, listeners: Vec<(&'static str, Usage)>) -> Result<(), prometheus::Error> {
        let metrics = ListenerMetrics::new("agentwrit_controller_", listeners)?;
        self.registry.register(Box::new(metrics))
    }

    /// The text exposition format, version 0.0.4.
    ///
    /// Fails when a metric can't be encoded.
    pub(crate) fn encode(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_show_up_by_name() {
        let metrics = Metrics::new().unwrap();
        metrics.errors.with_label_values(&["broker"]).inc();
        metrics.leader.set(1);
        let text = metrics.encode().unwrap();
        assert!(text.contains("agentwrit_controller_errors_total{category=\"broker\"} 1"));
        assert!(text.contains("agentwrit_controller_leader 1"));
    }
}
