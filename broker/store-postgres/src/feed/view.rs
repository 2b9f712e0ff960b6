//! What this process has heard of changes, and how long ago.

use std::time::Duration;

use agentwrit_protocol::Clock;
use agentwrit_store::{Result, ViewChange};
use parking_lot::Mutex;

use super::changes::{Told, between};
use super::{Snapshot, snapshot};
use crate::audit::head::{self, Head};
use crate::link::Link;
use crate::shared::Shared;

/// A view that has not heard of the store for longer answers nothing by itself.
const LONGEST_UNHEARD: Duration = Duration::from_secs(1);

/// What this process has heard.
#[derive(Default)]
pub(crate) struct View {
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    /// Number of the last change that the listener has; `None` before anything was loaded.
    seq: Option<i64>,
    epoch: String,
    /// When the store was asked last of that which has answered, monotonic: the view is not older.
    as_of: Option<Duration>,
}

/// Whether more has to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    All,
    /// All has to be loaded.
    Nothing,
}

impl View {
    /// Number of the last change that the listener has.
    pub(crate) fn seq(&self) -> Option<i64> {
        self.heard.lock().seq
    }

    /// How old the view may be; `None` when nothing was loaded.
    pub(crate) fn age(&self, now: Duration) -> Option<Duration> {
        Some(now.saturating_sub(self.heard.lock().as_of?))
    }

    /// Whether it may answer.
    pub(crate) fn is_current(&self, now: Duration) -> bool {
        self.age(now).is_some_and(|age| age <= LONGEST_UNHEARD)
    }

    /// Whether the store was asked after this moment.
    pub(crate) fn is_newer_than(&self, moment: Duration) -> bool {
        self.heard.lock().as_of.is_some_and(|as_of| as_of > moment)
    }

    /// Hands own changes that were committed to the listener: before them there is none that it lacks.
    pub(crate) fn publish(&self, shared: &Shared, changes: Vec<(i64, ViewChange)>) {
        if changes.is_empty() {
            return;
        }
        let mut heard = self.heard.lock();
        let known = heard.seq.unwrap_or_default();
        let last = changes.last().map_or(known, |(seq, _)| *seq);
        // The feed may have been faster than the answer of the commit.
        let lacking = changes.into_iter().filter(|(seq, _)| *seq > known);
        shared.revocations.changed(lacking.map(|(_, change)| change).collect());
        heard.seq = Some(known.max(last));
    }

    /// Takes changes in that the store has told, in order and without gaps.
    fn take(&self, shared: &Shared, told: Vec<(i64, Told)>) -> Taken {
        let mut heard = self.heard.lock();
        let Some(mut known) = heard.seq else {
            return Taken::Nothing;
        };
        let mut changes = Vec::new();
        for (seq, told) in told {
            if seq <= known {
                // The commit was faster.
                continue;
            }
            match told {
                Told::Change(change) if seq == known.saturating_add(1) => changes.push(change),
                _ => return Taken::Nothing,
            }
            known = seq;
        }
        if !changes.is_empty() {
            shared.revocations.changed(changes);
        }
        heard.seq = Some(known);
        Taken::All
    }

    /// Replaces all. Nothing is done when the view has changes of this epoch that the snapshot lacks: false then.
    pub(crate) fn load(&self, shared: &Shared, found: Snapshot<'_>, as_of: Duration) -> bool {
        let Snapshot {
            seq,
            identity,
            head,
            load,
            ..
        } = found;
        let mut heard = self.heard.lock();
        if heard.epoch == identity.epoch && heard.seq.is_some_and(|known| known > seq) {
            return false;
        }
        load.done();
        shared.status.set_min_iat(identity.min_iat);
        shared.status.stands(identity.epoch.clone(), &head);
        heard.seq = Some(seq);
        heard.epoch = identity.epoch;
        heard.as_of = heard.as_of.max(Some(as_of));
        true
    }

    fn heard_as_of(&self, moment: Duration) {
        let mut heard = self.heard.lock();
        heard.as_of = heard.as_of.max(Some(moment));
    }
}

/// Gives the view what it lacks, in a transaction of one moment or one that has the lock of the chain's head, whose row it has
/// read.
pub(crate) async fn bring_up(link: &mut Link<'_>, shared: &Shared, head: &Head, as_of: Duration) -> Result<()> {
    let view = &shared.view;
    let Some(known) = view.seq() else {
        return load(link, shared, as_of).await;
    };
    // It has fewer when a commit was published since it was read: the view is newer then.
    if head.view_seq > known {
        let lacking = between(link, known, head.view_seq).await?;
        let taken = lacking.map_or(Taken::Nothing, |told| view.take(shared, told));
        if taken == Taken::Nothing {
            return load(link, shared, as_of).await;
        }
    }
    view.heard_as_of(as_of);
    Ok(())
}

async fn load(link: &mut Link<'_>, shared: &Shared, as_of: Duration) -> Result<()> {
    let found = snapshot(link, shared).await?;
    let (seq, changes) = (found.seq, found.changes);
    if shared.view.load(shared, found, as_of) {
        tracing::info!(target: "STORE", component = "Feed", seq, changes, "the revocation view was loaded as a whole");
    }
    Ok(())
}

/// The row of the chain's head as this transaction sees it, and the view brought up to it.
pub(super) async fn look(link: &mut Link<'_>, shared: &Shared) -> Result<()> {
    let as_of = shared.clock.monotonic();
    let head = head::seen(link).await?;
    shared.hear_time(head.read_at, as_of);
    bring_up(link, shared, &head, as_of).await?;
    shared.status.advanced(&head.chain);
    Ok(())
}
