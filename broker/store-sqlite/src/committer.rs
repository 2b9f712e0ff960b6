//! The one writer: a thread of its own that gathers the commands that wait into one transaction.

use std::sync::Arc;

use agentwrit_protocol::{Clock, StoreMark};
use agentwrit_store::Outage;
use agentwrit_store::queue::Message;
use agentwrit_store::status::LISTS_FULL;
use agentwrit_store::{Compared, EventDraft, Job, Remembered, Result, StoreError, StoreLocation};
use agentwrit_trail::{Finding, Identity, Links, Rule, log_checkpoint};
use tokio::sync::{mpsc, oneshot};

use super::error::Operation;
use super::identity::identity_of;
use super::open::{Held, Opened, lacks_room, open, probe};
use super::restored::{begin_anew, begin_by_person, judge};
use super::revocation_changes::load_revocations;
use super::shared::Shared;
use super::transaction::{COMMIT, transaction};
use crate::audit::tail::remember;
use crate::facts::keep_high_water;

/// Commands in one transaction at most: bounds how long the first of them waits.
const BATCH: usize = 256;

/// The committer.
pub(crate) struct Committer {
    kind: StoreLocation,
    opened: Option<Opened>,
    held: Held,
    queue: mpsc::Receiver<Message>,
    shared: Arc<Shared>,
    outage: Outage,
}

impl Committer {
    pub(crate) fn new(
        kind: StoreLocation,
        (opened, held): (Option<Opened>, Held),
        queue: mpsc::Receiver<Message>,
        shared: Arc<Shared>,
    ) -> Self {
        let mut outage = Outage::default();
        if opened.is_none() {
            // Logged where it was tried to open.
            outage.failed(shared.clock.monotonic());
        }
        Self {
            kind,
            opened,
            held,
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
                Message::BeginEpoch(event, reply) => {
                    let begun = self.begin_epoch(*event);
                    if reply.send(begun).is_err() {
                        tracing::trace!(target: "STORE", component = "Epoch", "nobody waits for the answer");
                    }
                }
                Message::Close(done) => return self.close(done),
            }
        }
    }

    /// Commits one batch; returns what was met on the way and comes after it.
    fn gather(&mut self, first: Box<dyn Job>) -> Option<Message> {
        let mut jobs = vec![first];
        let mut next = None;
        // Tasks that are about to send something get the processor first: a small batch costs nearly as much as a large one.
        std::thread::yield_now();
        while jobs.len() < BATCH {
            match self.queue.try_recv() {
                Ok(Message::Job(job)) => jobs.push(job),
                Ok(message @ (Message::Close(_) | Message::Compare(..) | Message::BeginEpoch(..))) => {
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

    fn batch(&mut self, jobs: Vec<Box<dyn Job>>) {
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
        let begun = self.shared.clock.monotonic();
        match transaction(opened, &self.shared, &mut jobs) {
            Ok(published) => {
                if !published.links.events.is_empty() {
                    let took = self.shared.clock.monotonic().saturating_sub(begun);
                    self.shared.observer.audit_write_took(took);
                    self.shared.observer.audited(&published.links.event_types());
                }
                let Links {
                    head,
                    checkpoint,
                    sealed,
                    ..
                } = published.links;
                opened.head = head;
                opened.mark_kept = published.mark_kept.or(opened.mark_kept);
                if !published.refused.is_empty() && opened.indexes.is_first_refusal() {
                    tracing::error!(target: "STORE", component = "StatusIndex", "{LISTS_FULL}");
                }
                self.shared.status.advanced(&opened.head);
                let kept = &opened.head.kept;
                self.shared.observer.trail_takes(kept.bytes(), kept.segments);
                if !sealed.is_empty() {
                    self.shared.sealed.notify_one();
                }
                if !published.changes.is_empty() {
                    self.shared.revocations.changed(published.changes);
                }
                if takes_authority {
                    // Before the answer: a copy from before this commit must not pass for the store.
                    self.keep_mark();
                }
                for (index, job) in jobs.into_iter().enumerate() {
                    job.finish(if published.refused.contains(&index) {
                        Err(StoreError::StatusListsFull)
                    } else {
                        Ok(())
                    });
                }
                if let Some(checkpoint) = checkpoint {
                    log_checkpoint(&checkpoint);
                }
            }
            Err((culprit, error)) => {
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

    /// Writes the mark of the store into the file outside it; a store in memory can't be put back from a copy.
    fn keep_mark(&self) {
        if matches!(self.kind, StoreLocation::File(_)) {
            self.shared.mark.keep(|| self.shared.status.mark());
        }
    }

    fn count(&self, error: &StoreError) {
        self.shared.observer.failed(error.operation());
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
    /// gone, a COMMIT's outcome is unknown), the store is opened again, with the chain and the view as they are there.
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

    /// Compares the store with what is remembered of it outside; a restored one begins a new epoch.
    fn compare(&mut self, remembered: Remembered) -> Result<Compared> {
        let compared = self.compared(remembered);
        self.known_again(compared)
    }

    /// What came of something that may begin an epoch. When it failed, whether the epoch was committed is known only
    /// after a look at the file.
    fn known_again<T>(&mut self, done: Result<T>) -> Result<T> {
        if let Err(error) = &done
            && self.opened.take().is_some()
        {
            self.report(error);
            self.reopen();
        }
        done
    }

    fn compared(&mut self, remembered: Remembered) -> Result<Compared> {
        let opened = self.opened.as_mut().ok_or(StoreError::NotOpen)?;
        let present = self.shared.status.mark();
        let rule = match self.kind {
            StoreLocation::File(_) => judge(&opened.connection, &present, &remembered)?,
            // It began with this process, and refuses what is older than itself.
            StoreLocation::Memory => None,
        };
        if let Some(rule) = rule {
            let finding = Finding {
                rule,
                remembered,
                by: "the controller's Lease",
            };
            let mut before = identity_of(&opened.connection, present.epoch)?;
            let made = self.shared.status.made.read().clone();
            before.made = made == before.epoch && matches!(rule, Rule::UnknownEpoch | Rule::UnreadableMark);
            let Opened { connection, head, .. } = opened;
            let identity = begin_anew(connection, head, &before, &finding, &self.shared)?;
            self.stand_by(identity)?;
        }
        Ok(Compared {
            mark: self.shared.status.mark(),
            restored: rule.is_some(),
        })
    }

    /// Begins an epoch for a person.
    fn begin_epoch(&mut self, event: EventDraft) -> Result<StoreMark> {
        let begun = self.begun_epoch(event);
        self.known_again(begun)
    }

    fn begun_epoch(&mut self, event: EventDraft) -> Result<StoreMark> {
        let opened = self.opened.as_mut().ok_or(StoreError::NotOpen)?;
        let Opened { connection, head, .. } = opened;
        let before = identity_of(connection, self.shared.status.mark().epoch)?;
        let identity = begin_by_person(connection, head, &before, event, &self.shared)?;
        self.stand_by(identity)?;
        Ok(self.shared.status.mark())
    }

    /// Tells everybody of the epoch that has begun.
    fn stand_by(&mut self, identity: Identity) -> Result<()> {
        let opened = self.opened.as_mut().ok_or(StoreError::NotOpen)?;
        load_revocations(&opened.connection, &self.shared, identity.min_iat)?;
        self.shared.status.stands(identity.epoch, &opened.head);
        self.keep_mark();
        Ok(())
    }

    fn retry(&mut self) {
        if self.opened.is_none() {
            self.reopen();
        }
    }

    fn reopen(&mut self) {
        match open(&self.kind, &self.shared, &mut self.held) {
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
            .statement(self.shared.clock.now(), self.shared.signer.as_ref())
            .and_then(|statement| remember(&opened.connection, &statement).map(|()| statement));
        match signed {
            Ok(statement) => log_checkpoint(&statement),
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
        // Before the answer: whoever has it may open the store.
        self.held = Held::default();
        if done.send(closed).is_err() {
            tracing::trace!(target: "STORE", component = "Close", "nobody waits for the close");
        }
    }
}
