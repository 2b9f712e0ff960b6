//! Exports of sealed segments, one at a time, beside the drops: a folder that never answers holds up nothing else.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentwrit_protocol::Clock;
use agentwrit_protocol::audit::ExportedFile;
use agentwrit_store::{Command, Outage, Result as StoreResult, Segment, Tx};
use async_trait::async_trait;
use tokio::sync::Notify;

use super::export;
use crate::broker::Broker;

/// How long an export that failed rests.
const EXPORT_AGAIN: Duration = Duration::from_secs(10);
/// An export that takes longer counts as failed until it ends. A full disk waits that long for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the exports stand.
#[derive(Debug, Default)]
pub(super) struct Exporting {
    /// Held by who exports.
    working: tokio::sync::Mutex<()>,
    wanted: Notify,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    outage: Outage,
    /// When an export failed last, monotonic; `None` when the last one succeeded.
    failed: Option<Duration>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    first: i64,
    last: i64,
    /// Monotonic.
    since: Duration,
    /// When it was last told that it takes too long.
    told: Duration,
}

impl Exporting {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the exports be looked at.
    pub(super) fn wake(&self) {
        self.wanted.notify_one();
    }

    /// Whether what isn't exported yet may soon be: no export has failed or takes too long.
    pub(super) fn on_its_way(&self, now: Duration) -> bool {
        let state = self.state();
        let in_time = |running: &Running| now.saturating_sub(running.since) < PATIENCE;
        state.failed.is_none() && state.running.as_ref().is_none_or(in_time)
    }

    #[cfg(test)]
    pub(super) fn is_running(&self) -> bool {
        self.state().running.is_some()
    }

    /// Tells now and then of an export that takes too long.
    pub(super) fn tell_stalled(&self, broker: &Broker) {
        let now = broker.clock.monotonic();
        let mut state = self.state();
        let State { outage, running, .. } = &mut *state;
        let Some(running) = running else {
            return;
        };
        if now.saturating_sub(running.told) < PATIENCE {
            return;
        }
        running.told = now;
        broker.metrics.audit_export_failures.inc();
        if let Some(failures) = outage.failed(now) {
            let seconds = now.saturating_sub(running.since).as_secs();
            tracing::error!(target: "AUDIT", component = "Export", first = running.first, last = running.last, seconds,
                failures, "the export of an audit segment takes too long; until it ends, it counts as failed");
        }
    }

    fn begin(&self, segment: &Segment, now: Duration) {
        self.state().running = Some(Running {
            first: segment.first,
            last: segment.last,
            since: now,
            told: now,
        });
    }

    fn ended(&self) {
        self.state().running = None;
    }

    /// Takes note of the end of an export; how many failures there were before.
    fn succeeded(&self) -> u64 {
        let mut state = self.state();
        state.running = None;
        state.failed = None;
        state.outage.over()
    }

    /// Takes note of the end of an export; when a line is due, how many failures it tells of.
    fn failed(&self, now: Duration) -> Option<u64> {
        let mut state = self.state();
        state.running = None;
        state.failed = Some(now);
        state.outage.failed(now)
    }
}

/// Works until the task is dropped.
pub(super) async fn run(broker: &Broker) {
    loop {
        broker.retaining.exporting.wanted.notified().await;
        export_due(broker).await;
    }
}

/// Exports every sealed segment that isn't yet, the oldest first, unless that failed a moment ago.
pub(super) async fn export_due(broker: &Broker) {
    let exporting = &broker.retaining.exporting;
    let _working = exporting.working.lock().await;
    if let Err(error) = export_all(broker, exporting).await {
        // The committer has logged the cause.
        tracing::debug!(target: "AUDIT", component = "Export", error = %error, "segments are looked at again");
    }
}

async fn export_all(broker: &Broker, exporting: &Exporting) -> StoreResult<()> {
    let Some(folder) = &broker.config.retention.export else {
        return Ok(());
    };
    let failed = exporting.state().failed;
    if failed.is_some_and(|failed| broker.clock.monotonic().saturating_sub(failed) < EXPORT_AGAIN) {
        return Ok(());
    }
    while let Some(segment) = broker.store.query(|tx| tx.unexported_segment()).await? {
        exporting.begin(&segment, broker.clock.monotonic());
        match export::export(broker, folder, &segment).await {
            Ok(file) => {
                let (first, last) = (segment.first, segment.last);
                let (name, sha256) = (file.name.clone(), file.sha256.clone());
                let noted = broker.store.commit(NoteExport { first, file }).await;
                let failures = exporting.succeeded();
                noted?;
                tracing::info!(target: "AUDIT", component = "Export", first, last, file = name, sha256, failures,
                    "audit segment exported");
            }
            Err(error) => {
                let oldest = broker.store.query(|tx| tx.unexported_segment()).await;
                if matches!(&oldest, Ok(oldest) if oldest.as_ref().is_none_or(|oldest| oldest.first != segment.first)) {
                    // It was dropped meanwhile, for want of room.
                    exporting.ended();
                    continue;
                }
                broker.metrics.audit_export_failures.inc();
                if let Some(failures) = exporting.failed(broker.clock.monotonic()) {
                    tracing::error!(target: "AUDIT", component = "Export", first = segment.first, last = segment.last,
                        error = %error, failures, "an audit segment can't be exported; it is tried again");
                }
                break;
            }
        }
    }
    Ok(())
}

struct NoteExport {
    first: i64,
    file: ExportedFile,
}

#[async_trait]
impl Command for NoteExport {
    type Outcome = ();
    const MAKES_ROOM: bool = true;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<()> {
        tx.note_export(self.first, &self.file).await
    }
}
