//! One transaction with the jobs of a batch.

use std::time::Duration;

use agentwrit_protocol::Clock;
use agentwrit_store::{Job, Result, StoreError, ViewChange};
use agentwrit_trail::{Links, seal};

use crate::ahead::Ahead;
use crate::audit::events::append;
use crate::audit::head::{Head, locked};
use crate::error::lost;
use crate::facts::keep_high_water;
use crate::feed::{self, bring_up};
use crate::indexes::Indexes;
use crate::link::Link;
use crate::open::{Opened, note_batch};
use crate::shared::Shared;
use crate::tx::PgTx;

const COMMIT: &str = "commit";
/// How often the high-water mark goes into the store, with a commit that is made anyway.
const MARK_EVERY: Duration = Duration::from_secs(5);

/// What a commit publishes.
pub(crate) struct Published {
    pub(crate) links: Links,
    /// With their numbers.
    pub(crate) changes: Vec<(i64, ViewChange)>,
    pub(crate) indexes: Indexes,
    /// When the high-water mark was kept with it, monotonic.
    pub(crate) mark_kept: Option<Duration>,
}

/// How far a batch has come. It outlives a transaction that is given up.
#[derive(Default)]
pub(crate) struct Progress {
    /// The job that runs, or ran last.
    pub(crate) job: usize,
    /// Of the jobs: those that open something, for which there was no status index. They have not run.
    pub(crate) refused: Vec<usize>,
    /// The types of its events, once the COMMIT is on its way: whether it happened isn't known then.
    pub(crate) committing: Option<Vec<String>>,
}

/// Names a batch.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'b> {
    pub(crate) committer: &'b str,
    pub(crate) number: i64,
}

/// Runs the jobs between BEGIN and COMMIT.
///
/// # Errors
/// The first failure. When [`Progress::committing`] is set, and [`is_unknown`] says so of the error, what was done is not
/// known.
pub(crate) async fn transaction(
    opened: &Opened,
    shared: &Shared,
    batch: Batch<'_>,
    jobs: &mut [Box<dyn Job>],
    progress: &mut Progress,
) -> Result<Published> {
    let mut link = Link::new(&opened.client);
    // What is asked first follows BEGIN at once, and waits for the batches of other replicas.
    link.send_text("begin", "BEGIN").await?;
    let as_of = shared.clock.monotonic();
    let locked = locked(&mut link).await?;
    // What a command looks up in the view is as new as the rows.
    bring_up(&mut link, shared, &locked, as_of).await?;
    let Head {
        chain: mut head,
        counts,
        view_seq,
        ..
    } = locked;
    let mut indexes = Indexes::new(
        counts,
        shared.status_lists,
        jobs.iter().filter(|job| job.opens()).count(),
    );
    head.foreign = opened.foreign == Some(head.signed);
    let (mut drafts, mut changes, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
    let foreseen = Ahead::foreseen(jobs);
    let mut ahead = Ahead::of(&mut link, foreseen).await?;
    for (index, job) in jobs.iter_mut().enumerate() {
        progress.job = index;
        if job.opens() && indexes.is_full() {
            progress.refused.push(index);
            continue;
        }
        let says_its_reads = !job.foresees().is_empty();
        let mut tx = PgTx::new(&mut link, shared, Some(&mut indexes));
        tx.ahead = Some(&mut ahead);
        job.run(&mut tx).await?;
        drafts.append(&mut tx.drafts);
        changes.append(&mut tx.changes);
        dropped.append(&mut tx.dropped);
        if !says_its_reads {
            ahead.forget();
        }
    }
    let mut links = seal(&head, drafts, shared.clock.now(), shared.terms())?;
    links.head.kept.dropped(&dropped);
    if links.head != head {
        append(&mut link, &links).await?;
    }
    if indexes.has_changed() {
        indexes.save(&mut link).await?;
    }
    let changes = feed::append(&mut link, view_seq, changes, shared.clock.unix_millis()).await?;
    let now = shared.clock.monotonic();
    let is_due = opened
        .mark_kept
        .is_none_or(|kept| now.saturating_sub(kept) >= MARK_EVERY);
    if is_due {
        keep_high_water(&mut link, shared.judging.observe().mark).await?;
    }
    note_batch(&mut link, batch.committer, batch.number).await?;
    // On the heels of all this: after a failure it is a ROLLBACK.
    progress.committing = Some(links.event_types().into_iter().map(str::to_owned).collect());
    link.send_text(COMMIT, "COMMIT").await?;
    link.settle().await?;
    Ok(Published {
        links,
        changes,
        indexes,
        mark_kept: is_due.then_some(now),
    })
}

/// Whether it isn't known after this error if a COMMIT that was on its way has happened: a statement that the server
/// refused has made it a ROLLBACK.
pub(crate) fn is_unknown(error: &StoreError) -> bool {
    error.operation() == COMMIT || lost(error)
}
