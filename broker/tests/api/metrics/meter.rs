//! A broker whose metrics are read after each step.

use agentwrit_testkit::{FakeCluster, Harness};
use std::collections::BTreeMap;
use std::sync::Arc;

use agentwrit_store::EventFilter;

use crate::exposition::Exposition;

/// A broker and what its metrics said last.
pub struct Meter {
    pub harness: Harness,
    before: Exposition,
}

impl Meter {
    pub async fn new(cluster: Arc<FakeCluster>) -> Self {
        let settings = [
            ("AA_MAX_SESSION_AGE", "1000"),
            ("AA_AUDIT_RETENTION_DAYS", "7"),
            ("AA_SIGNING_KEY_PATH", "{folder}/keys/"),
            ("AA_AUDIT_EXPORT_DIR", "{folder}/export"),
        ];
        let harness = Harness::in_cluster(cluster, &settings).await;
        let before = Exposition::of(&harness).await;
        Self { harness, before }
    }

    /// What moved since the last call, and by how much; times, sizes, connections, the disk and the process's own aside.
    pub async fn deltas(&mut self) -> BTreeMap<String, i64> {
        // It waits for the events that nobody waited for.
        self.harness.state.store.events(EventFilter::default()).await.unwrap();
        let after = Exposition::of(&self.harness).await;
        let mut deltas = BTreeMap::new();
        for (series, value) in &after.samples {
            let moved = value - self.before.samples.get(series).unwrap_or(&0);
            let timed = [
                "request_duration",
                "audit_write_duration",
                "attestation_api",
                "audit_bytes",
                "connection",
                "store_free_bytes",
            ];
            let Some(name) = series.strip_prefix("agentwrit_") else {
                continue;
            };
            // It counts down: what is taken is what moves it by one.
            let moved = if name == "status_indexes_free" { -moved } else { moved };
            if moved != 0 && !timed.iter().any(|timed| name.starts_with(timed)) {
                let event = name.strip_prefix("audit_events_total{event_type=\"");
                let name = event.map_or(name.to_owned(), |event| {
                    format!("event {}", event.trim_end_matches("\"}"))
                });
                deltas.insert(name, moved);
            }
        }
        self.before = after;
        deltas
    }

    /// That each of these, and nothing else, moved by one since the last call.
    #[track_caller]
    pub fn moved(&mut self, wanted: &[&str]) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        let wanted: BTreeMap<String, i64> = wanted.iter().map(|name| ((*name).to_owned(), 1)).collect();
        async move { assert_eq!(self.deltas().await, wanted, "{caller}") }
    }
}
