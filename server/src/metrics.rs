//! What the connections of listeners hold, as Prometheus metrics that are read at each scrape.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGaugeVec, Opts};

use crate::Usage;

/// A collector of three metrics: `connections`, `connection_bytes`, `connection_evictions_total`, by listener.
pub struct ListenerMetrics {
    listeners: Vec<(&'static str, Usage)>,
    open: IntGaugeVec,
    bytes: IntGaugeVec,
    evictions: IntCounterVec,
}

impl ListenerMetrics {
    /// The metrics of these listeners, with names that begin with `prefix`.
    ///
    /// # Errors
    /// When the prefix can't be part of a name.
    pub fn new(prefix: &str, listeners: Vec<(&'static str, Usage)>) -> prometheus::Result<Self> {
        let options = |name: &str, help: &str| Opts::new(format!("{prefix}{name}"), help);
        let gauge = |name: &str, help: &str| IntGaugeVec::new(options(name, help), &["listener"]);
        let evictions = options(
            "connection_evictions_total",
            "Connections that ended because others needed their room",
        );
        Ok(Self {
            listeners,
            open: gauge("connections", "Open connections")?,
            bytes: gauge(
                "connection_bytes",
                "Memory that the open connections are counted with, in bytes",
            )?,
            evictions: IntCounterVec::new(evictions, &["listener"])?,
        })
    }

    fn parts(&self) -> [&dyn Collector; 3] {
        [&self.open, &self.bytes, &self.evictions]
    }
}

impl Collector for ListenerMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().iter().flat_map(|part| part.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let whole = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        for (listener, usage) in &self.listeners {
            let now = usage.now();
            self.open.with_label_values(&[listener]).set(whole(now.connections));
            self.bytes.with_label_values(&[listener]).set(whole(now.bytes));
            let evictions = self.evictions.with_label_values(&[listener]);
            evictions.inc_by(now.evictions.saturating_sub(evictions.get()));
        }
        self.parts().iter().flat_map(|part| part.collect()).collect()
    }
}
