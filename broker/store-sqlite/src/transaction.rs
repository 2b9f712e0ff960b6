//! One transaction with the jobs of a batch.

use std::borrow::Cow;
use std::time::Duration;

use agentwrit_protocol::Clock;
use agentwrit_store::{Job, StoreError, ViewChange};
use agentwrit_trail::{Links, Saved, seal};

use super::open::{Opened, note_reusable};
use super::shared::Shared;
use super::statements::Statements;
use super::tx::{SqliteTx, ready};
use crate::audit::tail::append;
use crate::facts::keep_high_water;

/// The operation of a failed COMMIT, whose outcome is not known.
pub(super) const COMMIT: &str = "commit";
/// How often the high-water mark goes into the store, with a commit that is made anyway.
const MARK_EVERY: Duration = Duration::from_secs(5);

/// What a commit publishes.
pub(super) struct Published {
    /// Of the jobs: those that open something, for which there was no status index. They have not run.
    pub(super) refused: Vec<usize>,
    pub(super) links: Links,
    pub(super) changes: Vec<ViewChange>,
    /// When the high-water mark was kept with it, monotonic.
    pub(super) mark_kept: Option<Duration>,
}

/// Runs the jobs between BEGIN and COMMIT; on failure names the job at fault (the last one for COMMIT itself).
pub(super) fn transaction(
    opened: &mut Opened,
    shared: &Shared,
    jobs: &mut [Box<dyn Job>],
) -> std::result::Result<Published, (usize, StoreError)> {
    let done = run(opened, shared, jobs);
    match &done {
        Ok(_) => opened.indexes.committed(shared),
        Err(_) => opened.indexes.rolled_back(),
    }
    done
}

fn run(
    opened: &mut Opened,
    shared: &Shared,
    jobs: &mut [Box<dyn Job>],
) -> std::result::Result<Published, (usize, StoreError)> {
    let Opened {
        connection, indexes, ..
    } = opened;
    let last = jobs.len().saturating_sub(1);
    connection
        .change("begin", "BEGIN IMMEDIATE", [])
        .map_err(|error| (0, error))?;
    let (mut drafts, mut changes, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
    let mut saved = Saved::default();
    let mut refused = Vec::new();
    for (index, job) in jobs.iter_mut().enumerate() {
        if job.opens() && indexes.is_full() {
            refused.push(index);
            continue;
        }
        let mut tx = SqliteTx::new(connection, shared, Some(&mut *indexes));
        ready(job.run(&mut tx)).map_err(|error| (index, error))?;
        drafts.extend(tx.drafts);
        changes.extend(tx.changes);
        dropped.extend(tx.dropped);
        saved = saved.and(tx.saved);
    }
    let mut head = Cow::Borrowed(&opened.head);
    if saved != Saved::default() {
        // Before anything is sealed, whose bytes these may be.
        head.to_mut().kept.shortened(saved);
    }
    let mut links = seal(&head, drafts, shared.clock.now(), shared.terms())
        .and_then(|links| append(connection, links))
        .map_err(|error| (last, error))?;
    links.head.kept.dropped(&dropped);
    let now = shared.clock.monotonic();
    let is_due = opened
        .mark_kept
        .is_none_or(|kept| now.saturating_sub(kept) >= MARK_EVERY);
    if is_due {
        keep_high_water(connection, shared.judging.observe().mark).map_err(|error| (last, error))?;
    }
    if is_due || shared.status.space.full() {
        note_reusable(connection, shared).map_err(|error| (last, error))?;
    }
    connection.change(COMMIT, "COMMIT", []).map_err(|error| (last, error))?;
    Ok(Published {
        refused,
        links,
        changes,
        mark_kept: is_due.then_some(now),
    })
}
