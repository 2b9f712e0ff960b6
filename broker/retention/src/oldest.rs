//! The questions to the store about its oldest segment, and the commands that take it away.

use agentwrit_protocol::audit::{DropRule, DroppedSegment, EventType};
use agentwrit_store::{Command, EventDraft, Result as StoreResult, Retention, Segment, Tx};
use async_trait::async_trait;

use super::decide::{Circumstances, Decision, decide};
use super::pace::Rested;

/// What became of the oldest segment, or will.
#[derive(Debug)]
pub(super) enum Oldest {
    Stays,
    Waits,
    Refuses,
    Goes(DroppedSegment),
}

/// Looks at the oldest segment and changes nothing.
#[derive(Clone)]
pub(super) struct FindOldest {
    pub(super) policy: Retention,
    pub(super) scarce: bool,
    pub(super) exporting: bool,
    pub(super) rested: Rested,
}

impl FindOldest {
    async fn look(&self, tx: &mut dyn Tx) -> StoreResult<Option<(Segment, Decision)>> {
        let Some(segment) = tx.oldest_segment().await? else {
            return Ok(None);
        };
        let now = Circumstances {
            sealed: tx.sealed_bytes().await?,
            passed: tx.times().passed(),
            // The file doesn't shrink, but what it has free is room all the same.
            starved: self.scarce && tx.reusable_bytes().await? < self.policy.cut().bytes,
            paced: self.rested.enough_for(&segment),
            exporting: self.exporting,
        };
        let decision = decide(&self.policy, &segment, &now);
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
impl Command for FindOldest {
    type Outcome = Oldest;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<Oldest> {
        Ok(self.find(tx).await?.0)
    }
}

/// Looks once more, and drops it if it is still to go.
pub(super) struct DropOldest(pub(super) FindOldest);

#[async_trait]
impl Command for DropOldest {
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

/// Removes some of the rows of dropped segments.
pub(super) struct Sweep;

#[async_trait]
impl Command for Sweep {
    type Outcome = ();
    const MAKES_ROOM: bool = true;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<()> {
        tx.sweep_dropped().await
    }
}
