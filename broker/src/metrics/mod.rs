//! Prometheus metrics (`docs/wire-contract.md` §16.2), with bounded labels.

mod live_agents;

use std::collections::HashSet;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use agentwrit_protocol::Clock;
use agentwrit_retention::RetentionObserver;
use agentwrit_store::{Store, StoreObserver};

use self::live_agents::LiveAgents;

/// Distinct scope labels before `other`.
const SCOPE_LABELS: usize = 100;
/// What `/v1/metrics` and `/metrics` answer with.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// Registers a collector.
fn added<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// Every metric of the broker, in a registry of its own.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    process: Registry,
    scope_labels: Mutex<HashSet<String>>,
    tokens_issued: IntCounterVec,
    /// Revocations and releases, by level.
    pub tokens_revoked: IntCounterVec,
    /// Registrations, by status.
    pub registrations: IntCounterVec,
    /// Admin logins, by status.
    pub admin_auth: IntCounterVec,
    /// Launch tokens made.
    pub launch_tokens_created: IntCounter,
    /// Sessions that are live, as of the last count for a scrape.
    active_agents: IntGauge,
    live_agents: LiveAgents,
    /// Time to answer, by endpoint.
    pub request_duration: HistogramVec,
    /// Tokens refused because they are not valid yet.
    pub clock_skew: IntCounter,
    /// Events committed, by type.
    pub audit_events: IntCounterVec,
    /// Time of a transaction with audit events.
    pub audit_write_duration: Histogram,
    /// Store failures, by operation.
    pub db_errors: IntCounterVec,
    /// Events found at start.
    pub audit_events_loaded: IntGauge,
    /// Bytes that the disk of the store has left, beside the reserve.
    pub store_free_bytes: IntGauge,
    /// Status lists that are open.
    pub status_lists: IntGauge,
    /// Indexes that are free in them.
    pub status_indexes_free: IntGauge,
    /// Times that the store was found or declared to be a restored one, by rule.
    pub store_restored: IntCounterVec,
    /// What the trail takes of the store, about.
    pub audit_bytes: IntGauge,
    /// Sealed segments of the trail.
    pub audit_segments: IntGauge,
    /// Segments that were dropped, by whether they were exported.
    pub audit_segments_dropped: IntCounterVec,
    /// Exports of segments that failed.
    pub audit_export_failures: IntCounter,
    /// Denials that the trail holds only as a number.
    pub denials_suppressed: IntCounter,
    sweeps: IntCounterVec,
    sweep_duration: HistogramVec,
    /// Requests whose handler panicked, which is a defect of ours.
    pub handler_panics: IntCounter,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// When a metric is defined wrongly.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("agentwrit".to_owned()), None)?;
        // Of its own, because the names of process metrics carry no prefix.
        let process = Registry::new();
        process.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let build = IntGauge::with_opts(
            Opts::new("build_info", "Version of the broker; always 1")
                .const_label("version", env!("CARGO_PKG_VERSION")),
        )?;
        build.set(1);
        registry.register(Box::new(build))?;
        let counter = |name: &str, help: &str| added(&registry, IntCounter::new(name, help)?);
        let gauge = |name: &str, help: &str| added(&registry, IntGauge::new(name, help)?);
        let counters = |name: &str, help: &str, label: &str| {
            added(&registry, IntCounterVec::new(Opts::new(name, help), &[label])?)
        };
        Ok(Self {
            scope_labels: Mutex::new(HashSet::new()),
            tokens_issued: counters("tokens_issued_total", "Tokens signed, by first scope", "scope")?,
            tokens_revoked: counters("tokens_revoked_total", "Revocations and releases", "level")?,
            registrations: counters("registrations_total", "Registrations of agents", "status")?,
            admin_auth: counters("admin_auth_total", "Admin logins", "status")?,
            launch_tokens_created: counter("launch_tokens_created_total", "Launch tokens made")?,
            active_agents: gauge("active_agents", "Agents with a live session")?,
            live_agents: LiveAgents::default(),
            request_duration: added(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new("request_duration_seconds", "Time to answer a request"),
                    &["endpoint"],
                )?,
            )?,
            clock_skew: counter("clock_skew_total", "Tokens refused because their nbf is in the future")?,
            audit_events: counters("audit_events_total", "Audit events committed", "event_type")?,
            audit_write_duration: added(
                &registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "audit_write_duration_seconds",
                        "Time of a transaction with audit events",
                    )
                    .buckets(vec![0.001, 0.005, 0.01, 0.025, 0.05, 0.1]),
                )?,
            )?,
            db_errors: counters("db_errors_total", "Failed store operations", "operation")?,
            audit_events_loaded: gauge("audit_events_loaded", "Audit events found at start")?,
            store_free_bytes: gauge(
                "store_free_bytes",
                "Bytes that the disk of the store has left, beside the reserve",
            )?,
            status_lists: gauge("status_lists", "Status lists that are open, of at most 64")?,
            status_indexes_free: gauge(
                "status_indexes_free",
                "Free indexes of the open status lists: with 64 lists and fewer than 65536, nothing is registered or delegated",
            )?,
            store_restored: counters(
                "store_restored_total",
                "Times that the store was found or declared to be a restored one: revoke again what was revoked since its copy",
                "rule",
            )?,
            audit_bytes: gauge("audit_bytes", "Bytes that the audit trail takes of the store, about")?,
            audit_segments: gauge("audit_segments", "Sealed segments of the audit trail that are kept")?,
            audit_segments_dropped: counters(
                "audit_segments_dropped_total",
                "Segments of the audit trail that were dropped, by whether they were exported before",
                "exported",
            )?,
            audit_export_failures: counter(
                "audit_export_failures_total",
                "Exports of segments of the audit trail that failed or take too long; each is tried again",
            )?,
            denials_suppressed: counter(
                "denials_suppressed_total",
                "Denials that the audit trail holds only as a number",
            )?,
            sweeps: added(
                &registry,
                IntCounterVec::new(
                    Opts::new(
                        "sweeps_total",
                        "Sweeps of what can never matter again, by what is swept and outcome: success, failure, or skipped_lock when \
                         another replica does it",
                    ),
                    &["task", "outcome"],
                )?,
            )?,
            sweep_duration: added(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new("sweep_duration_seconds", "Time of a sweep, by what is swept")
                        .buckets(vec![0.01, 0.1, 1.0, 10.0]),
                    &["task"],
                )?,
            )?,
            handler_panics: counter("handler_panics_total", "Requests whose handler panicked")?,
            registry: registry.clone(),
            process,
        })
    }

    /// Registers a metric of another part; its name gets the prefix `agentwrit_`.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn register(&self, collector: Box<dyn Collector>) -> prometheus::Result<()> {
        self.registry.register(collector)
    }

    /// Counts a token by its first scope; beyond 100 distinct ones the label is `other`.
    pub fn token_issued(&self, scope: &[String]) {
        let first = scope.first().map_or("none", String::as_str);
        let mut labels = self.scope_labels.lock();
        let known = labels.contains(first) || (labels.len() < SCOPE_LABELS && labels.insert(first.to_owned()));
        drop(labels);
        self.tokens_issued
            .with_label_values(&[if known { first } else { "other" }])
            .inc();
    }

    /// Counts a sweep.
    pub(crate) fn swept(&self, task: &str, outcome: &str) {
        self.sweeps.with_label_values(&[task, outcome]).inc();
    }

    /// Notes how long a sweep took.
    pub(crate) fn sweep_took(&self, task: &str, took: Duration) {
        self.sweep_duration
            .with_label_values(&[task])
            .observe(took.as_secs_f64());
    }

    /// Counts the live agents again, unless that was done within the last second.
    pub(crate) async fn update_live_agents(&self, clock: &dyn Clock, store: &Store) {
        self.live_agents.update(clock, &self.active_agents, store).await;
    }

    /// The text that Prometheus scrapes.
    ///
    /// # Errors
    /// When a metric can't be encoded.
    pub fn render(&self) -> prometheus::Result<String> {
        let mut families = self.registry.gather();
        families.extend(self.process.gather());
        TextEncoder::new().encode_to_string(&families)
    }
}

impl StoreObserver for Metrics {
    fn failed(&self, operation: &'static str) {
        self.db_errors.with_label_values(&[operation]).inc();
    }

    fn audit_write_took(&self, duration: Duration) {
        self.audit_write_duration.observe(duration.as_secs_f64());
    }

    fn audited(&self, event_types: &[&str]) {
        for event_type in event_types {
            self.audit_events.with_label_values(&[event_type]).inc();
        }
    }

    fn trail_takes(&self, bytes: i64, segments: i64) {
        self.audit_bytes.set(bytes);
        self.audit_segments.set(segments);
    }

    fn restored(&self, rule: &'static str) {
        self.store_restored.with_label_values(&[rule]).inc();
    }

    fn disk_free(&self, bytes: u64) {
        self.store_free_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    fn status_indexes(&self, lists: u32, free: u32) {
        self.status_lists.set(lists.into());
        self.status_indexes_free.set(free.into());
    }
}

impl RetentionObserver for Metrics {
    fn segment_dropped(&self, exported: bool) {
        let label = if exported { "true" } else { "false" };
        self.audit_segments_dropped.with_label_values(&[label]).inc();
    }

    fn export_failed(&self) {
        self.audit_export_failures.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_labels_are_bounded() {
        let metrics = Metrics::new().unwrap();
        for n in 0..150 {
            metrics.token_issued(&[format!("read:data:{n}")]);
        }
        metrics.token_issued(&[]);
        let text = metrics.render().unwrap();
        assert_eq!(
            text.lines()
                .filter(|line| line.starts_with("agentwrit_tokens_issued_total{"))
                .count(),
            101
        );
        assert!(
            text.contains("agentwrit_tokens_issued_total{scope=\"other\"} 51"),
            "{text}"
        );
        assert!(text.contains("agentwrit_build_info{version="), "{text}");
        assert!(text.contains("process_resident_memory_bytes"), "{text}");
    }
}
