//! The audit trail does not grow for ever: its oldest segments are exported, then dropped.
//!
//! What a segment is and when one is sealed is the store's affair. Here sealed ones are written to the export folder, and
//! the oldest goes by its age, by the bytes of all, or because the disk is nearly full.
#![deny(missing_docs)]

mod decide;
mod export;
mod exporting;
mod oldest;
mod pace;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::audit::{DropRule, DroppedSegment};
use agentwrit_protocol::file_names::folder_of;
use agentwrit_protocol::{Clock, JudgingClock};
use agentwrit_store::{Result as StoreResult, Retention, Store};
use tokio::time::MissedTickBehavior;

use exporting::Exporting;
use oldest::{DropOldest, FindOldest, Oldest, Sweep};
use pace::Pace;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Told what happens to segments, for metrics.
pub trait RetentionObserver: Send + Sync {
    /// A segment was dropped, exported before or not.
    fn segment_dropped(&self, exported: bool);
    /// An export failed, or takes too long.
    fn export_failed(&self);
}

/// Exports and drops the segments of one store.
pub struct AuditRetention {
    policy: Retention,
    file: Option<PathBuf>,
    store: Store,
    clock: Arc<dyn Clock>,
    judging: Arc<JudgingClock>,
    observer: Arc<dyn RetentionObserver>,
    /// Monotonic.
    started: Duration,
    exporting: Exporting,
    /// Locked while segments are dropped.
    pace: tokio::sync::Mutex<Pace>,
}

impl AuditRetention {
    /// Keeps the trail of a store, which may be in this file, by this policy. `judging` says how old an event is.
    pub fn new(
        policy: Retention,
        file: Option<PathBuf>,
        store: Store,
        clock: Arc<dyn Clock>,
        judging: Arc<JudgingClock>,
        observer: Arc<dyn RetentionObserver>,
    ) -> Self {
        Self {
            policy,
            file,
            store,
            started: clock.monotonic(),
            clock,
            judging,
            observer,
            exporting: Exporting::default(),
            pace: tokio::sync::Mutex::default(),
        }
    }

    /// Works until the task is dropped: when a segment is sealed, and each second, since age and disk change by themselves.
    pub async fn run(&self) {
        if let Some(warning) = self.same_file_system() {
            tracing::warn!(target: "AUDIT", component = "Retention", "{warning}");
        }
        // Side by side: an export folder may be slow, or never answer.
        tokio::join!(self.drop_when_due(), self.export_when_woken());
    }

    /// Exports what is sealed, then drops what is due now.
    pub async fn apply(&self) {
        self.export_due().await;
        self.drop_due().await;
    }

    async fn drop_when_due(&self) {
        let mut timer = tokio::time::interval(LOOK_EVERY);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = timer.tick() => {}
                () = self.store.sealed() => {}
            }
            if self.store.connected() {
                self.exporting.wake();
                self.drop_due().await;
            }
        }
    }

    /// The warning about an export folder on the store's file system: exports then fail together with the store.
    fn same_file_system(&self) -> Option<String> {
        let store = self.file.as_deref()?;
        let export = self.policy.export.as_deref()?;
        let device = |folder: &Path| std::fs::metadata(folder).ok().map(|found| found.dev());
        let of_store = device(folder_of(store))?;
        (device(export)? == of_store).then(|| {
            format!(
                "AA_AUDIT_EXPORT_DIR={} is on the file system of the store: what is exported there fills the same disk, and is \
                 lost with it",
                export.display()
            )
        })
    }

    async fn drop_due(&self) {
        let mut pace = self.pace.lock().await;
        self.report_stalled_export();
        if let Err(error) = self.pass(&mut pace).await {
            // The committer has logged the cause.
            tracing::debug!(target: "AUDIT", component = "Retention", error = %error, "segments are looked at again");
        }
    }

    async fn pass(&self, pace: &mut Pace) -> StoreResult<()> {
        self.sweep().await?;
        pace.look(self.judging.times(), self.clock.monotonic());
        let mut by_age = 0;
        loop {
            let find = FindOldest {
                policy: self.policy.clone(),
                scarce: self.store.scarce(),
                exporting: self.exporting.on_its_way(self.clock.monotonic()),
                rested: pace.rested(self.started, self.clock.monotonic()),
            };
            match self.store.read(find.clone()).await? {
                Oldest::Stays => {
                    pace.warned = false;
                    break self.store.refuse(false);
                }
                Oldest::Waits => {
                    self.store.refuse(false);
                    break self.warn_waiting(pace, by_age).await?;
                }
                Oldest::Refuses => break self.store.refuse(true),
                Oldest::Goes(_) => {}
            }
            if let Oldest::Goes(dropped) = self.store.commit(DropOldest(find)).await? {
                if dropped.rule == DropRule::Age {
                    pace.dropped(self.clock.monotonic());
                    by_age += 1;
                }
                self.report(&dropped);
                self.sweep().await?;
            }
        }
        Ok(())
    }

    /// Removes the rows of dropped segments, a few at a time, so that other commits don't wait long.
    async fn sweep(&self) -> StoreResult<()> {
        while self.store.query(|tx| tx.any_dropped()).await? {
            self.store.commit(Sweep).await?;
        }
        Ok(())
    }

    /// Says once that several segments are due by age, of which `gone` went just now.
    async fn warn_waiting(&self, pace: &mut Pace, gone: i64) -> StoreResult<()> {
        let Some(since) = self.policy.kept_since(self.judging.times().passed()) else {
            return Ok(());
        };
        if pace.warned {
            return Ok(());
        }
        let due = self.store.query(move |tx| tx.segments_before(since)).await?;
        let due = due.saturating_add(gone);
        if due > 1 {
            pace.warned = true;
            tracing::warn!(target: "AUDIT", component = "Retention", segments = due, days = self.policy.days,
                "several audit segments are too old at once: they go one by one, none in the first hour after a start or a \
                 step of the clock; look at the clock, and stop the broker if it is wrong");
        }
        Ok(())
    }

    fn report(&self, dropped: &DroppedSegment) {
        let exported = dropped.exported.is_some();
        self.observer.segment_dropped(exported);
        let (first, last, rule) = (dropped.first, dropped.last, dropped.rule.as_str());
        if dropped.rule == DropRule::Full && !exported {
            tracing::error!(target: "AUDIT", component = "Retention", first, last, rule,
                "the disk is nearly full: audit events were dropped that are exported nowhere");
        } else {
            tracing::info!(target: "AUDIT", component = "Retention", first, last, rule, exported, "audit segment dropped");
        }
    }
}

#[cfg(test)]
mod tests;
