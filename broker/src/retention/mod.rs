//! The audit trail does not grow for ever: its oldest segments are exported, then dropped.
//!
//! What a segment is and when one is sealed is the store's affair. Here sealed ones are written to the export folder, and
//! the oldest goes by its age, by the bytes of all, or because the disk is nearly full.

mod decide;
mod export;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use agentwrit_protocol::Clock;
use agentwrit_protocol::audit::{DropRule, DroppedSegment, EventType, ExportedFile};
use async_trait::async_trait;
use tokio::time::MissedTickBehavior;

use crate::broker::{AppState, Broker};
use crate::config::Config;
use crate::file_names::folder_of;
use crate::store::{Command, EventDraft, Outage, Result as StoreResult, Retention, Segment, StoreKind, Tx};
use decide::{Decision, decide};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long an export that failed rests.
const EXPORT_AGAIN: Duration = Duration::from_secs(10);

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
pub struct Retaining {
    outage: Outage,
    /// When an export failed last, monotonic; `None` when the last one succeeded.
    failed: Option<Duration>,
}

/// Works until the task is dropped: when a segment is sealed, and each second, for age and disk go on by themselves.
pub(crate) async fn run(broker: &AppState) {
    if let Some(warning) = same_file_system(&broker.config) {
        tracing::warn!(target: "AUDIT", component = "Retention", "{warning}");
    }
    let mut timer = tokio::time::interval(LOOK_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            () = broker.store.sealed() => {}
        }
        if broker.store.connected() {
            retain(broker).await;
        }
    }
}

/// What to say of an export folder on the disk of the store: exports then fail together with it.
fn same_file_system(config: &Config) -> Option<String> {
    let StoreKind::File(store) = &config.store else {
        return None;
    };
    let export = config.retention.export.as_deref()?;
    let device = |folder: &Path| std::fs::metadata(folder).ok().map(|found| found.dev());
    let of_store = device(folder_of(store).unwrap_or_else(|| Path::new(".")))?;
    (device(export)? == of_store).then(|| {
        format!(
            "AA_AUDIT_EXPORT_DIR={} is on the file system of the store: what is exported there fills the same disk, and is \
             lost with it",
            export.display()
        )
    })
}

/// Exports and drops what is due now.
pub async fn retain(broker: &Broker) {
    let mut retaining = broker.retaining.lock().await;
    if let Err(error) = pass(broker, &mut retaining).await {
        // The committer has logged the cause.
        tracing::debug!(target: "AUDIT", component = "Retention", error = %error, "segments are looked at again");
    }
}

async fn pass(broker: &Broker, retaining: &mut Retaining) -> StoreResult<()> {
    sweep(broker).await?;
    let retention = &broker.config.retention;
    if let Some(folder) = &retention.export {
        export_all(broker, folder, retaining).await?;
    }
    loop {
        let command = DropOldest {
            retention: retention.clone(),
            scarce: broker.store.scarce(),
        };
        match broker.store.read(command.clone()).await? {
            Oldest::Stays => break broker.store.refuse(false),
            Oldest::Refuses => break broker.store.refuse(true),
            Oldest::Goes(_) => {}
        }
        if let Oldest::Goes(dropped) = broker.store.commit(Dropping(command)).await? {
            tell(broker, &dropped);
            sweep(broker).await?;
        }
    }
    Ok(())
}

/// Removes the rows of dropped segments, a few at a time, so that whoever wants to commit meanwhile waits for few.
async fn sweep(broker: &Broker) -> StoreResult<()> {
    while broker.store.read(AnyToSweep).await? {
        broker.store.commit(Sweep).await?;
    }
    Ok(())
}

/// Exports every sealed segment that isn't yet, the oldest first, unless that failed a moment ago.
async fn export_all(broker: &Broker, folder: &Path, retaining: &mut Retaining) -> StoreResult<()> {
    let now = broker.clock.monotonic();
    if retaining
        .failed
        .is_some_and(|failed| now.saturating_sub(failed) < EXPORT_AGAIN)
    {
        return Ok(());
    }
    while let Some(segment) = broker.store.read(Unexported).await? {
        match export::export(broker, folder, &segment).await {
            Ok(file) => {
                let failures = retaining.outage.over();
                retaining.failed = None;
                tracing::info!(target: "AUDIT", component = "Export", first = segment.first, last = segment.last,
                    file = file.name, sha256 = file.sha256, failures, "audit segment exported");
                let first = segment.first;
                broker.store.commit(NoteExport { first, file }).await?;
            }
            Err(error) => {
                retaining.failed = Some(now);
                broker.metrics.audit_export_failures.inc();
                if let Some(failures) = retaining.outage.failed(now) {
                    tracing::error!(target: "AUDIT", component = "Export", first = segment.first, last = segment.last,
                        error = %error, failures, "an audit segment can't be exported; it is tried again");
                }
                break;
            }
        }
    }
    Ok(())
}

fn tell(broker: &Broker, dropped: &DroppedSegment) {
    let exported = dropped.exported.is_some();
    let label = if exported { "true" } else { "false" };
    broker.metrics.audit_segments_dropped.with_label_values(&[label]).inc();
    let (first, last, rule) = (dropped.first, dropped.last, dropped.rule.as_str());
    if dropped.rule == DropRule::Full && !exported {
        tracing::error!(target: "AUDIT", component = "Retention", first, last, rule,
            "the disk is nearly full: audit events were dropped that are exported nowhere");
    } else {
        tracing::info!(target: "AUDIT", component = "Retention", first, last, rule, exported, "audit segment dropped");
    }
}

/// What became of the oldest segment, or will.
#[derive(Debug)]
enum Oldest {
    Stays,
    Refuses,
    Goes(DroppedSegment),
}

/// Looks at the oldest segment.
#[derive(Clone)]
struct DropOldest {
    retention: Retention,
    scarce: bool,
}

impl DropOldest {
    async fn look(&self, tx: &mut dyn Tx) -> StoreResult<Option<(Segment, Decision)>> {
        let Some(segment) = tx.oldest_segment().await? else {
            return Ok(None);
        };
        let sealed = tx.sealed_bytes().await?;
        // The file doesn't shrink, but what it has free is room all the same.
        let starved = self.scarce && tx.reusable_bytes().await? < self.retention.cut().bytes;
        let decision = decide(&self.retention, &segment, sealed, tx.times().passed(), starved);
        Ok(Some((segment, decision)))
    }

    async fn find(&self, tx: &mut dyn Tx) -> StoreResult<(Oldest, Option<Segment>)> {
        Ok(match self.look(tx).await? {
            None | Some((_, Decision::Stay)) => (Oldest::Stays, None),
            Some((_, Decision::Refuse)) => (Oldest::Refuses, None),
            Some((segment, Decision::Drop(rule))) => (Oldest::Goes(dropped(&segment, rule)), Some(segment)),
        })
    }
}

fn dropped(segment: &Segment, rule: DropRule) -> DroppedSegment {
    DroppedSegment {
        first: segment.first,
        last: segment.last,
        first_hash: segment.first_hash.clone(),
        last_hash: segment.head.clone(),
        rule,
        exported: segment.exported.clone(),
    }
}

#[async_trait]
impl Command for DropOldest {
    type Outcome = Oldest;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<Oldest> {
        Ok(self.find(tx).await?.0)
    }
}

/// Looks once more, and drops it.
struct Dropping(DropOldest);

#[async_trait]
impl Command for Dropping {
    type Outcome = Oldest;
    const MAKES_ROOM: bool = true;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<Oldest> {
        let (oldest, segment) = self.0.find(tx).await?;
        if let (Oldest::Goes(dropped), Some(segment)) = (&oldest, segment) {
            tx.drop_segment(&segment).await?;
            tx.audit(EventDraft::success(EventType::AuditSegmentDropped, dropped.detail()));
        }
        Ok(oldest)
    }
}

struct AnyToSweep;

#[async_trait]
impl Command for AnyToSweep {
    type Outcome = bool;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<bool> {
        tx.any_dropped().await
    }
}

struct Sweep;

#[async_trait]
impl Command for Sweep {
    type Outcome = ();
    const MAKES_ROOM: bool = true;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<()> {
        tx.sweep_dropped().await
    }
}

struct Unexported;

#[async_trait]
impl Command for Unexported {
    type Outcome = Option<Segment>;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<Option<Segment>> {
        tx.unexported_segment().await
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

#[cfg(test)]
mod tests;
