//! The one writer: a thread of its own that gathers the commands that wait into one transaction.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use agentwrit_protocol::audit::Checkpoint;
use agentwrit_protocol::{Clock, Entropy};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::audit::insert;
use super::chain::{Links, remember, seal};
use super::matches::Matches;
use super::open::{Opened, open, probe};
use super::statements::Statements;
use super::tx::SqliteTx;
use crate::keys::KeySet;
use crate::metrics::Metrics;
use crate::store::handle::StoreStatus;
use crate::store::outage::Outage;
use crate::store::{MemoryRun, Operation, Result, StoreError, StoreKind, Tx};
use crate::view::{View, ViewChange};

/// Commands in one transaction at most: bounds how long the first of them waits.
const BATCH: usize = 256;
const COMMIT: &str = "commit";

/// A command that waits for its turn.
pub(crate) trait Pending: Send {
    /// Runs it; its outcome is kept until [`Pending::finish`].
    fn run(&mut self, tx: &mut dyn Tx) -> Result<()>;
    /// Answers the caller.
    fn finish(self: Box<Self>, result: Result<()>);
}

/// What the committer is sent.
pub(crate) enum Message {
    /// Work.
    Job(Box<dyn Pending>),
    /// Try again to open a store that isn't.
    Reopen,
    /// The broker stops: close the store and confirm.
    Close(oneshot::Sender<Result<()>>),
}

/// What the store shares with the rest of the broker.
pub(crate) struct Shared {
    pub(crate) view: Arc<View>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) keys: Arc<KeySet>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) status: StoreStatus,
    pub(crate) matches: Matches,
    pub(crate) max_ttl: i64,
    pub(crate) memory_run: MemoryRun,
    /// Whether no store can have been beside this signing key before.
    pub(crate) first: AtomicBool,
}

impl StoreStatus {
    pub(crate) fn opened(&self, epoch: String, events: i64) {
        *self.epoch.write().unwrap_or_else(PoisonError::into_inner) = epoch;
        *self.failure.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.events.store(events, Ordering::SeqCst);
        self.openings.fetch_add(1, Ordering::SeqCst);
        self.open.store(true, Ordering::SeqCst);
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
        while let Some(message) = self.queue.blocking_recv() {
            match message {
                Message::Job(first) => {
                    if let Some(done) = self.gather(first) {
                        return self.close(done);
                    }
                }
                Message::Reopen => self.retry(),
                Message::Close(done) => return self.close(done),
            }
        }
    }

    /// Commits one batch; returns the confirmation to give when a close was met on the way.
    fn gather(&mut self, first: Box<dyn Pending>) -> Option<oneshot::Sender<Result<()>>> {
        let mut jobs = vec![first];
        let mut close = None;
        // Whoever is about to send something gets the processor first: a small batch costs nearly as much as a large one.
        std::thread::yield_now();
        while jobs.len() < BATCH {
            match self.queue.try_recv() {
                Ok(Message::Job(job)) => jobs.push(job),
                Ok(Message::Close(done)) => {
                    close = Some(done);
                    break;
                }
                // Jobs are refused while the store isn't open; the next reminder comes soon.
                Ok(Message::Reopen) => {}
                Err(_) => break,
            }
        }
        self.batch(jobs);
        close
    }

    fn batch(&mut self, mut jobs: Vec<Box<dyn Pending>>) {
        let Some(opened) = self.opened.as_mut() else {
            for job in jobs {
                job.finish(Err(StoreError::NotOpen));
            }
            return;
        };
        let timer = self.shared.metrics.audit_write_duration.start_timer();
        match transaction(opened, &self.shared, &mut jobs) {
            Ok(published) => {
                let Links {
                    head,
                    events,
                    checkpoint,
                } = published.links;
                if events.is_empty() {
                    timer.stop_and_discard();
                } else {
                    timer.observe_duration();
                }
                opened.head = head;
                self.shared.status.events.store(opened.head.sequence, Ordering::SeqCst);
                self.shared.view.apply(published.changes);
                for sealed in &events {
                    self.shared
                        .metrics
                        .audit_events
                        .with_label_values(&[sealed.event.event_type.as_str()])
                        .inc();
                }
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
                self.roll_back(&error);
                let mut error = Some(error);
                for (index, job) in jobs.into_iter().enumerate() {
                    let mine = if index == culprit { error.take() } else { None };
                    job.finish(Err(mine.unwrap_or(StoreError::RolledBack)));
                }
            }
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

    /// Signs what no checkpoint covers, so that the next start knows where the trail ended.
    fn sign_off(&self) {
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
    let (mut drafts, mut changes) = (Vec::new(), Vec::new());
    for (index, job) in jobs.iter_mut().enumerate() {
        let mut tx = SqliteTx::new(connection, shared.clock.now(), &shared.matches);
        job.run(&mut tx).map_err(|error| (index, error))?;
        drafts.extend(tx.drafts);
        changes.extend(tx.changes);
    }
    let links = seal(&opened.head, drafts, shared.clock.now(), &shared.keys)
        .and_then(|links| append(connection, links))
        .map_err(|error| (last, error))?;
    connection.change(COMMIT, "COMMIT", []).map_err(|error| (last, error))?;
    Ok(Published { links, changes })
}

/// Writes what a batch appends to the chain.
fn append(connection: &Connection, links: Links) -> Result<Links> {
    insert(connection, &links.events)?;
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
