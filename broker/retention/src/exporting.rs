//! Exports of sealed segments, one at a time, beside the drops: a folder that never answers holds up nothing else.

use std::time::Duration;

use agentwrit_protocol::audit::ExportedFile;
use agentwrit_store::{Command, Outage, Result as StoreResult, Segment, Tx};
use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::{AuditRetention, export};

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
    /// When it was last counted as one that takes too long.
    counted: Duration,
}

/// An export that takes too long.
struct Stalled {
    first: i64,
    last: i64,
    seconds: u64,
    /// When a line is due, how many failures it tells of.
    failures: Option<u64>,
}

impl Exporting {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
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

    /// Takes note that an export takes too long. `None` while none does, or one was counted a moment ago.
    fn stalled(&self, now: Duration) -> Option<Stalled> {
        let mut state = self.state();
        let State { outage, running, .. } = &mut *state;
        let running = running.as_mut()?;
        if now.saturating_sub(running.counted) < PATIENCE {
            return None;
        }
        running.counted = now;
        Some(Stalled {
            first: running.first,
            last: running.last,
            seconds: now.saturating_sub(running.since).as_secs(),
            failures: outage.failed(now),
        })
    }

    fn begin(&self, segment: &Segment, now: Duration) {
        self.state().running = Some(Running {
            first: segment.first,
            last: segment.last,
            since: now,
            counted: now,
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

impl AuditRetention {
    /// Works until the task is dropped.
    pub(super) async fn export_when_woken(&self) {
        loop {
            self.exporting.wanted.notified().await;
            self.export_due().await;
        }
    }

    /// Counts an export that takes too long as failed, and says so now and then.
    pub(super) fn report_stalled_export(&self) {
        let Some(stalled) = self.exporting.stalled(self.clock.monotonic()) else {
            return;
        };
        self.observer.export_failed();
        if let Some(failures) = stalled.failures {
            let Stalled {
                first, last, seconds, ..
            } = stalled;
            tracing::error!(target: "AUDIT", component = "Export", first, last, seconds,
                failures, "the export of an audit segment takes too long; until it ends, it counts as failed");
        }
    }

    /// Exports every sealed segment that isn't yet, the oldest first, unless that failed a moment ago.
    pub(super) async fn export_due(&self) {
        let _working = self.exporting.working.lock().await;
        if let Err(error) = self.export_all().await {
            // The committer has logged the cause.
            tracing::debug!(target: "AUDIT", component = "Export", error = %error, "segments are looked at again");
        }
    }

    async fn export_all(&self) -> StoreResult<()> {
        let Some(folder) = &self.policy.export else {
            return Ok(());
        };
        let failed = self.exporting.state().failed;
        if failed.is_some_and(|failed| self.clock.monotonic().saturating_sub(failed) < EXPORT_AGAIN) {
            return Ok(());
        }
        while let Some(segment) = self.store.query(|tx| tx.unexported_segment()).await? {
            self.exporting.begin(&segment, self.clock.monotonic());
            match export::export(&self.store, folder, &segment).await {
                Ok(file) => self.note_export(&segment, file).await?,
                Err(error) => {
                    let oldest = self.store.query(|tx| tx.unexported_segment()).await;
                    if matches!(&oldest, Ok(oldest) if oldest.as_ref().is_none_or(|oldest| oldest.first != segment.first))
                    {
                        // It was dropped meanwhile, for want of room.
                        self.exporting.ended();
                        continue;
                    }
                    self.observer.export_failed();
                    if let Some(failures) = self.exporting.failed(self.clock.monotonic()) {
                        tracing::error!(target: "AUDIT", component = "Export", first = segment.first, last = segment.last,
                            error = %error, failures, "an audit segment can't be exported; it is tried again");
                    }
                    break;
                }
            }
        }
        Ok(())
    }

    async fn note_export(&self, segment: &Segment, file: ExportedFile) -> StoreResult<()> {
        let (first, last) = (segment.first, segment.last);
        let (name, sha256) = (file.name.clone(), file.sha256.clone());
        let noted = self.store.commit(NoteExport { first, file }).await;
        let failures = self.exporting.succeeded();
        noted?;
        tracing::info!(target: "AUDIT", component = "Export", first, last, file = name, sha256, failures,
            "audit segment exported");
        Ok(())
    }
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
