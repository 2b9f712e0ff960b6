//! The audit trail does not grow for ever: its oldest segments are exported, then dropped.
//!
//! What a segment is and when one is sealed is the store's affair. Here sealed ones are written to the export folder, and
//! the oldest goes by its age, by the bytes of all, or because the disk is nearly full.

mod decide;
mod export;
mod exporting;
mod pace;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use agentwrit_protocol::Clock;
use agentwrit_protocol::audit::{DropRule, DroppedSegment, EventType};
use agentwrit_protocol::file_names::folder_of;
use agentwrit_store::{Command, EventDraft, Result as StoreResult, Retention, Segment, Tx};
use async_trait::async_trait;
use tokio::time::MissedTickBehavior;

use crate::broker::{AppState, Broker};
use crate::config::Config;
use decide::{Circumstances, Decision, decide};
use exporting::Exporting;
use pace::{Pace, Rested};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
pub struct Retaining {
    exporting: Exporting,
    /// Held while segments are dropped.
    pace: tokio::sync::Mutex<Pace>,
}

/// Works until the task is dropped: when a segment is sealed, and each second, for age and disk go on by themselves.
pub(crate) async fn run(broker: &AppState) {
    if let Some(warning) = same_file_system(&broker.config) {
        tracing::warn!(target: "AUDIT", component = "Retention", "{warning}");
    }
    // Beside each other: an export folder may be slow, or never answer.
    tokio::join!(drop_when_due(broker), exporting::run(broker));
}

async fn drop_when_due(broker: &Broker) {
    let mut timer = tokio::time::interval(LOOK_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            () = broker.store.sealed() => {}
        }
        if broker.store.connected() {
            broker.retaining.exporting.wake();
            drop_due(broker).await;
        }
    }
}

/// What to say of an export folder on the disk of the store: exports then fail together with it.
fn same_file_system(config: &Config) -> Option<String> {
    let store = config.store.path()?;
    let export = config.retention.export.as_deref()?;
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

/// Exports what is sealed, then drops what is due now.
pub async fn retain(broker: &Broker) {
    exporting::export_due(broker).await;
    drop_due(broker).await;
}

async fn drop_due(broker: &Broker) {
    let mut pace = broker.retaining.pace.lock().await;
    broker.retaining.exporting.tell_stalled(broker);
    if let Err(error) = pass(broker, &mut pace).await {
        // The committer has logged the cause.
        tracing::debug!(target: "AUDIT", component = "Retention", error = %error, "segments are looked at again");
    }
}

async fn pass(broker: &Broker, pace: &mut Pace) -> StoreResult<()> {
    sweep(broker).await?;
    let retention = &broker.config.retention;
    pace.look(broker.judging.times(), broker.clock.monotonic());
    let mut by_age = 0;
    loop {
        let command = DropOldest {
            retention: retention.clone(),
            scarce: broker.store.scarce(),
            exporting: broker.retaining.exporting.on_its_way(broker.clock.monotonic()),
            rested: pace.rested(broker.started, broker.clock.monotonic()),
        };
        match broker.store.read(command.clone()).await? {
            Oldest::Stays => {
                pace.told = false;
                break broker.store.refuse(false);
            }
            Oldest::Waits => {
                broker.store.refuse(false);
                break tell_waiting(broker, pace, by_age).await?;
            }
            Oldest::Refuses => break broker.store.refuse(true),
            Oldest::Goes(_) => {}
        }
        if let Oldest::Goes(dropped) = broker.store.commit(Dropping(command)).await? {
            if dropped.rule == DropRule::Age {
                pace.dropped(broker.clock.monotonic());
                by_age += 1;
            }
            tell(broker, &dropped);
            sweep(broker).await?;
        }
    }
    Ok(())
}

/// Removes the rows of dropped segments, a few at a time, so that whoever wants to commit meanwhile waits for few.
async fn sweep(broker: &Broker) -> StoreResult<()> {
    while broker.store.query(|tx| tx.any_dropped()).await? {
        broker.store.commit(Sweep).await?;
    }
    Ok(())
}

/// Says once that several segments are due by age, of which `gone` went just now.
async fn tell_waiting(broker: &Broker, pace: &mut Pace, gone: i64) -> StoreResult<()> {
    let retention = &broker.config.retention;
    let Some(since) = retention.kept_since(broker.judging.times().passed()) else {
        return Ok(());
    };
    if pace.told {
        return Ok(());
    }
    let due = broker
        .store
        .query(move |tx| tx.segments_before(since))
        .await?
        .saturating_add(gone);
    if due > 1 {
        pace.told = true;
        tracing::warn!(target: "AUDIT", component = "Retention", segments = due, days = retention.days,
            "several audit segments are too old at once: they go one by one, none in the first hour after a start or a \
             step of the clock; look at the clock, and stop the broker if it is wrong");
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
    Waits,
    Refuses,
    Goes(DroppedSegment),
}

/// Looks at the oldest segment.
#[derive(Clone)]
struct DropOldest {
    retention: Retention,
    scarce: bool,
    exporting: bool,
    rested: Rested,
}

impl DropOldest {
    async fn look(&self, tx: &mut dyn Tx) -> StoreResult<Option<(Segment, Decision)>> {
        let Some(segment) = tx.oldest_segment().await? else {
            return Ok(None);
        };
        let now = Circumstances {
            sealed: tx.sealed_bytes().await?,
            passed: tx.times().passed(),
            // The file doesn't shrink, but what it has free is room all the same.
            starved: self.scarce && tx.reusable_bytes().await? < self.retention.cut().bytes,
            paced: self.rested.enough_for(&segment),
            exporting: self.exporting,
        };
        let decision = decide(&self.retention, &segment, &now);
        Ok(Some((segment, decision)))
    }

    async fn find(&self, tx: &mut dyn Tx) -> StoreResult<(Oldest, Option<Segment>)> {
        Ok(match self.look(tx).await? {
            None | Some((_, Decision::Stay)) => (Oldest::Stays, None),
            Some((_, Decision::Wait)) => (Oldest::Waits, None),
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

struct Sweep;

#[async_trait]
impl Command for Sweep {
    type Outcome = ();
    const MAKES_ROOM: bool = true;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<()> {
        tx.sweep_dropped().await
    }
}

#[cfg(test)]
mod tests;
