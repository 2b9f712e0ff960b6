//! The one writer: a thread of its own that gathers the commands that wait into one transaction.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use agentwrit_protocol::audit::Checkpoint;
use agentwrit_protocol::{Clock, Entropy, JudgingClock, StoreMark};
use rusqlite::Connection;
use tokio::sync::{Notify, mpsc, oneshot};

use super::audit::insert;
use super::chain::{ChainHead, Links, remember, seal};
use super::matches::Matches;
use super::meta::keep_high_water;
use super::open::{Opened, lacks_room, load_changes, note_reusable, open, probe};
use super::restored::{Finding, Identity, Rule, begin_anew, judge};
use super::segments::{self, Saved};
use super::statements::Statements;
use super::tx::SqliteTx;
use crate::keys::KeySet;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::store::handle::StoreStatus;
use crate::store::outage::Outage;
use crate::store::segment::Retention;
use crate::store::{Compared, MarkFile, MemoryRun, Operation, Remembered, Result, StoreError, StoreKind, Tx};
use crate::view::{View, ViewChange};

/// Commands in one transaction at most: bounds how long the first of them waits.
const BATCH: usize = 256;
const COMMIT: &str = "commit";
/// How often the high-water mark goes into the store, with a commit that is made anyway.
const MARK_EVERY: Duration = Duration::from_secs(5);

/// A command that waits for its turn.
pub(crate) trait Pending: Send {
    /// Runs it; its outcome is kept until [`Pending::finish`].
    fn run(&mut self, tx: &mut dyn Tx) -> Result<()>;
    /// Whether it takes authority away.
    fn takes_authority(&self) -> bool;
    /// Whether it may take the last places of the queue and the last bytes of the disk.
    fn uses_reserves(&self) -> bool;
    /// Whether [`Pending::rewind`] can do it.
    fn can_rewind(&self) -> bool;
    /// Makes it as it was before it ran; whether that can be done.
    fn rewind(&mut self) -> bool;
    /// Answers the caller.
    fn finish(self: Box<Self>, result: Result<()>);
}

/// What the committer is sent.
pub(crate) enum Message {
    /// Work.
    Job(Box<dyn Pending>),
    /// Try again to open a store that isn't.
    Reopen,
    /// Compare the store with what somebody outside remembers of it.
    Compare(Remembered, oneshot::Sender<Result<Compared>>),
    /// The broker stops: close the store and confirm.
    Close(oneshot::Sender<Result<()>>),
}

/// What the store shares with the rest of the broker.
pub(crate) struct Shared {
    pub(crate) view: Arc<View>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) judging: Arc<JudgingClock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) keys: Arc<KeySet>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) status: StoreStatus,
    pub(crate) matches: Matches,
    pub(crate) max_ttl: i64,
    pub(crate) memory_run: MemoryRun,
    pub(crate) mark: MarkFile,
    pub(crate) retention: Retention,
    /// Wakes who exports and drops segments.
    pub(crate) sealed: Notify,
    /// Whether a person has said that the store was put back from a copy, and it has not been opened since.
    pub(crate) restored: AtomicBool,
    /// Whether a person says that the wall clock is right; once.
    pub(crate) accept_clock: AtomicBool,
    /// Whether no store can have been beside this signing key before.
    pub(crate) first: AtomicBool,
}

impl StoreStatus {
    pub(crate) fn opened(&self, epoch: String, head: &ChainHead) {
        *self.failure.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.stands(epoch, head);
        self.openings.fetch_add(1, Ordering::SeqCst);
        self.open.store(true, Ordering::SeqCst);
    }

    /// Takes note that this process made a store of this epoch.
    pub(crate) fn made(&self, epoch: String) {
        *self.made.write().unwrap_or_else(PoisonError::into_inner) = epoch;
    }

    /// Takes note of where the store stands now.
    pub(crate) fn stands(&self, epoch: String, head: &ChainHead) {
        *self.mark.write().unwrap_or_else(PoisonError::into_inner) = head.mark(epoch);
        self.events.store(head.events(), Ordering::SeqCst);
    }

    /// Takes note of what a batch has appended.
    fn advanced(&self, head: &ChainHead) {
        self.events.store(head.events(), Ordering::SeqCst);
        let noted = self.mark.read().unwrap_or_else(PoisonError::into_inner).sequence;
        if noted != head.sequence {
            let mut mark = self.mark.write().unwrap_or_else(PoisonError::into_inner);
            *mark = head.mark(std::mem::take(&mut mark.epoch));
        }
    }

    /// Where the store stands.
    pub(crate) fn mark(&self) -> StoreMark {
        self.mark.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn failed(&self, error: &StoreError) {
        *self.failure.write().unwrap_or_else(PoisonError::into_inner) = Some(error.kind());
        self.open.store(false, Ordering::SeqCst);
    }
}

/// What a commit publishes.
struct Published {
    links: Links,
    changes: Vec<ViewChange>,
    /// When the high-water mark was kept with it, monotonic.
    mark_kept: Option<Duration>,
}

/// The committer.
pub(crate) struct Committer {
    kind: StoreKind,
    opened: Option<Opened>,
    queue: mpsc::Receiver<Message>,
    shared: Arc<Shared>,
    outage: Outage,
}

impl Committer {
    pub(crate) fn new(
        kind: StoreKind,
        opened: Option<Opened>,
        queue: mpsc::Receiver<Message>,
        shared: Arc<Shared>,
    ) -> Self {
        let mut outage = Outage::default();
        if opened.is_none() {
            // Whoever tried to open it has told.
            outage.failed(shared.clock.monotonic());
        }
        Self {
            kind,
            opened,
            queue,
            shared,
            outage,
        }
    }

    /// Works until the broker stops.
    pub(crate) fn run(mut self) {
        let mut next = None;
        while let Some(message) = next.take().or_else(|| self.queue.blocking_recv()) {
            match message {
                Message::Job(first) => next = self.gather(first),
                Message::Reopen => self.retry(),
                Message::Compare(remembered, reply) => {
                    let compared = self.compare(remembered);
                    if reply.send(compared).is_err() {
                        tracing::trace!(target: "STORE", component = "Mark", "nobody waits for the answer");
                    }
                }
                Message::Close(done) => return self.close(done),
            }
        }
    }

    /// Commits one batch; returns what was met on the way and comes after it.
    fn gather(&mut self, first: Box<dyn Pending>) -> Option<Message> {
        let mut jobs = vec![first];
        let mut next = None;
        // Whoever is about to send something gets the processor first: a small batch costs nearly as much as a large one.
        std::thread::yield_now();
        while jobs.len() < BATCH {
            match self.queue.try_recv() {
                Ok(Message::Job(job)) => jobs.push(job),
                Ok(message @ (Message::Close(_) | Message::Compare(..))) => {
                    next = Some(message);
                    break;
                }
                // Jobs are refused while the store isn't open; the next reminder comes soon.
                Ok(Message::Reopen) => {}
                Err(_) => break,
            }
        }
        self.batch(jobs);
        next
    }

    fn batch(&mut self, jobs: Vec<Box<dyn Pending>>) {
        let (mut jobs, refused): (Vec<_>, Vec<_>) = if self.shared.status.space.full() {
            jobs.into_iter().partition(|job| job.uses_reserves())
        } else {
            (jobs, Vec::new())
        };
        for job in refused {
            job.finish(Err(StoreError::DiskFull));
        }
        if jobs.is_empty() {
            return;
        }
        let Some(opened) = self.opened.as_mut() else {
            for job in jobs {
                job.finish(Err(StoreError::NotOpen));
            }
            return;
        };
        let takes_authority = jobs.iter().any(|job| job.takes_authority());
        let timer = self.shared.metrics.audit_write_duration.start_timer();
        match transaction(opened, &self.shared, &mut jobs) {
            Ok(published) => {
                let Links {
                    head,
                    events,
                    checkpoint,
                    sealed,
                } = published.links;
                if events.is_empty() {
                    timer.stop_and_discard();
                } else {
                    timer.observe_duration();
                }
                opened.head = head;
                opened.mark_kept = published.mark_kept.or(opened.mark_kept);
                self.shared.status.advanced(&opened.head);
                self.shared.metrics.trail_takes(&opened.head.kept);
                if !sealed.is_empty() {
                    self.shared.sealed.notify_one();
                }
                self.shared.view.apply(published.changes);
                if takes_authority {
                    // Before the answer: a copy from before this commit must not pass for the store.
                    self.keep_mark();
                }
                let types = events.iter().map(|sealed| sealed.event.event_type.as_str());
                self.shared.metrics.count_events(types);
                for job in jobs {
                    job.finish(Ok(()));
                }
                if let Some(checkpoint) = checkpoint {
                    tell(&checkpoint);
                }
            }
            Err((culprit, error)) => {
                timer.stop_and_discard();
                self.report(&error);
                let space = &self.shared.status.space;
                let is_full = lacks_room(&self.kind, &error);
                if is_full {
                    space.found_full();
                }
                // Parts of the reserve make room, until none is left; only for those that can be tried again.
                let has_room = is_full && jobs.iter().any(|job| job.can_rewind()) && space.give_up();
                self.roll_back(&error);
                let mut error = Some(error);
                let mut again = Vec::new();
                for (index, mut job) in jobs.into_iter().enumerate() {
                    if has_room && job.rewind() {
                        again.push(job);
                        continue;
                    }
                    let mine = if index == culprit { error.take() } else { None };
                    job.finish(Err(mine.unwrap_or(StoreError::RolledBack)));
                }
                if !again.is_empty() {
                    self.batch(again);
                }
            }
        }
    }

    /// Lets the file outside the store say where it stands; a store in memory can't be put back from a copy.
    fn keep_mark(&self) {
        if matches!(self.kind, StoreKind::File(_)) {
            self.shared.mark.keep(|| self.shared.status.mark());
        }
    }

    fn count(&self, error: &StoreError) {
        self.shared
            .metrics
            .db_errors
            .with_label_values(&[error.operation()])
            .inc();
    }

    fn report(&self, error: &StoreError) {
        self.count(error);
        tracing::error!(target: "STORE", component = "Commit", operation = error.operation(), error = %error, "batch rolled back");
    }

    /// Takes note that the store can't be used.
    fn away(&mut self, error: &StoreError) {
        self.shared.status.failed(error);
        self.count(error);
        if let Some(failures) = self.outage.failed(self.shared.clock.monotonic()) {
            tracing::error!(target: "STORE", component = "InitDB", operation = error.operation(), error = %error, failures,
                "the store can't be used; it is tried each second");
        }
    }

    /// Ends the failed transaction. When it failed for more than its own content (the disk is full, the file is
    /// gone, a COMMIT's outcome is unknown), the store is opened anew, with the chain and the view as they are there.
    fn roll_back(&mut self, error: &StoreError) {
        let Some(opened) = self.opened.as_mut() else { return };
        // "no transaction is active" when BEGIN itself failed, or SQLite has rolled back by itself.
        let rolled_back = opened.connection.execute_batch("ROLLBACK");
        let writable = probe(&mut opened.connection);
        if writable.is_err() || error.operation() == COMMIT {
            self.opened = None;
            if let Err(error) = writable {
                self.away(&error);
            }
            self.reopen();
        } else if let Err(error) = rolled_back {
            tracing::trace!(target: "STORE", component = "Commit", error = %error, "nothing to roll back");
        }
    }

    /// Compares the store with what somebody outside remembers of it; a restored one begins anew.
    fn compare(&mut self, remembered: Remembered) -> Result<Compared> {
        let compared = self.compared(remembered);
        if let Err(error) = &compared
            && self.opened.take().is_some()
        {
            // Whether the new epoch was committed is known only after a look at the file.
            self.report(error);
            self.reopen();
        }
        compared
    }

    fn compared(&mut self, remembered: Remembered) -> Result<Compared> {
        let opened = self.opened.as_mut().ok_or(StoreError::NotOpen)?;
        let present = self.shared.status.mark();
        let rule = match self.kind {
            StoreKind::File(_) => judge(&opened.connection, &present, &remembered)?,
            // It began with this process, and refuses what is older than itself.
            StoreKind::Memory => None,
        };
        if let Some(rule) = rule {
            let finding = Finding {
                rule,
                remembered,
                by: "the controller's Lease",
            };
            let mut before = Identity::of(&opened.connection, present.epoch)?;
            let made = self
                .shared
                .status
                .made
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            before.made = made == before.epoch && matches!(rule, Rule::UnknownEpoch | Rule::UnreadableMark);
            let Opened { connection, head, .. } = opened;
            let identity = begin_anew(connection, head, &before, &finding, &self.shared)?;
            let changes = load_changes(connection, self.shared.judging.observe())?;
            self.shared.view.load(identity.min_iat, changes);
            self.shared.status.stands(identity.epoch, head);
            self.keep_mark();
        }
        Ok(Compared {
            mark: self.shared.status.mark(),
            restored: rule.is_some(),
        })
    }

    fn retry(&mut self) {
        if self.opened.is_none() {
            self.reopen();
        }
    }

    fn reopen(&mut self) {
        match open(&self.kind, &self.shared) {
            Ok(opened) => {
                let failures = self.outage.over();
                tracing::info!(target: "STORE", component = "InitDB", failures, "store open again");
                self.opened = Some(opened);
            }
            Err(error) => self.away(&error),
        }
    }

    /// Keeps the high-water mark, and signs what no checkpoint covers, so that the next start knows where the trail ended.
    fn sign_off(&self) {
        if let Some(opened) = &self.opened
            && let Err(error) = keep_high_water(&opened.connection, self.shared.judging.observe().mark)
        {
            self.report(&error);
        }
        let Some(opened) = self.opened.as_ref().filter(|opened| opened.head.unsigned()) else {
            return;
        };
        let signed = opened
            .head
            .statement(self.shared.clock.now(), &self.shared.keys)
            .and_then(|statement| remember(&opened.connection, &statement).map(|()| statement));
        match signed {
            Ok(statement) => tell(&statement),
            Err(error) => self.report(&error),
        }
    }

    fn close(mut self, done: oneshot::Sender<Result<()>>) {
        self.queue.close();
        let mut rest = Vec::new();
        while let Some(message) = self.queue.blocking_recv() {
            if let Message::Job(job) = message {
                rest.push(job);
            }
        }
        if !rest.is_empty() {
            self.batch(rest);
        }
        self.sign_off();
        if self.opened.is_some() {
            self.keep_mark();
        }
        let closed = match self.opened.take() {
            Some(opened) => opened.connection.close().map_err(|(_, error)| error).during("close"),
            None => Ok(()),
        };
        if done.send(closed).is_err() {
            tracing::trace!(target: "STORE", component = "Close", "nobody waits for the close");
        }
    }
}

/// Runs the jobs between BEGIN and COMMIT; on failure names the job at fault (the last one for COMMIT itself).
fn transaction(
    opened: &mut Opened,
    shared: &Shared,
    jobs: &mut [Box<dyn Pending>],
) -> std::result::Result<Published, (usize, StoreError)> {
    let connection = &mut opened.connection;
    let last = jobs.len().saturating_sub(1);
    connection
        .change("begin", "BEGIN IMMEDIATE", [])
        .map_err(|error| (0, error))?;
    let (mut drafts, mut changes, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
    let mut saved = Saved::default();
    for (index, job) in jobs.iter_mut().enumerate() {
        let mut tx = SqliteTx::new(connection, shared);
        job.run(&mut tx).map_err(|error| (index, error))?;
        drafts.extend(tx.drafts);
        changes.extend(tx.changes);
        dropped.extend(tx.dropped);
        saved = saved.and(tx.saved);
    }
    let cut = shared.retention.cut();
    let mut head = Cow::Borrowed(&opened.head);
    if saved != Saved::default() {
        // Before anything is sealed, whose bytes these may be.
        head.to_mut().kept.shortened(saved);
    }
    let mut links = seal(&head, drafts, shared.clock.now(), &shared.keys, cut)
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
        links,
        changes,
        mark_kept: is_due.then_some(now),
    })
}

/// Writes what a batch appends to the chain.
pub(super) fn append(connection: &Connection, links: Links) -> Result<Links> {
    insert(connection, &links.events)?;
    segments::insert(connection, &links.sealed)?;
    if let Some(checkpoint) = &links.checkpoint {
        remember(connection, checkpoint)?;
    }
    Ok(links)
}

/// Tells the log, which is kept elsewhere than the store, how long the trail is.
fn tell(checkpoint: &Checkpoint) {
    tracing::info!(target: "AUDIT", component = "Checkpoint", sequence = checkpoint.sequence, head = checkpoint.head,
        kid = checkpoint.kid, signature = checkpoint.signature, "audit trail signed");
}
