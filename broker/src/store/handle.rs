//! The store as services hold it: a queue to the committer, a pool for reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{PoisonError, RwLock};

use async_trait::async_trait;
use sqlx::SqlitePool;
use tokio::sync::{mpsc, oneshot};

use super::sqlite::SqliteTx;
use super::sqlite::committer::{Committer, Message, Pending, Shared};
use super::sqlite::open::{Opened, open, reader};
use super::{Command, EventDraft, EventFilter, EventPage, Operation, Result, StoreError, Tx};

/// Commands that may wait; more are refused with 503.
const QUEUE_LENGTH: usize = 8192;

/// Where a store lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreKind {
    /// One file, its WAL and its lock file beside it.
    File(std::path::PathBuf),
    /// Memory only, by choice (`AA_DB_PATH=""`) or because the file can't open.
    Memory,
}

/// What everybody may ask about the store at any time.
#[derive(Debug, Default)]
pub(crate) struct StoreStatus {
    pub(crate) open: AtomicBool,
    pub(crate) events: AtomicI64,
    pub(crate) epoch: RwLock<String>,
    pub(crate) failure: RwLock<Option<&'static str>>,
}

/// Handle of the store; one committer task does the work.
pub struct Store {
    queue: mpsc::Sender<Message>,
    reader: Option<SqlitePool>,
    shared: Arc<Shared>,
    persistent: bool,
    fallback: Option<&'static str>,
}

impl Store {
    /// Opens a store. One that can't open is retried each second when it is `required`, and stood in for by memory
    /// when it isn't.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process holds it; any error of a store in memory.
    pub(crate) async fn open(kind: StoreKind, required: bool, shared: Arc<Shared>) -> Result<Self> {
        match open(&kind, &shared).await {
            Ok(opened) => Self::start(kind, Some(opened), shared, None),
            Err(error) if matches!(error, StoreError::Locked { .. }) || kind == StoreKind::Memory => Err(error),
            Err(error) => {
                shared.metrics.db_errors.with_label_values(&[error.operation()]).inc();
                tracing::error!(target: "STORE", component = "InitDB", error = %error, required, "store can't be opened");
                shared.status.failed(&error);
                if required {
                    return Self::start(kind, None, shared, None);
                }
                let memory = open(&StoreKind::Memory, &shared).await?;
                Self::start(StoreKind::Memory, Some(memory), shared, Some(error.kind()))
            }
        }
    }

    /// Starts the committer; `fallback` says why a store in memory stands in for the configured one.
    fn start(
        kind: StoreKind,
        opened: Option<Opened>,
        shared: Arc<Shared>,
        fallback: Option<&'static str>,
    ) -> Result<Self> {
        let (queue, waiting) = mpsc::channel(QUEUE_LENGTH);
        let persistent = kind != StoreKind::Memory;
        let reader = reader(&kind)?;
        let committer = tokio::spawn(Committer::new(kind, opened, waiting, Arc::clone(&shared)).run());
        let watched = Arc::clone(&shared);
        tokio::spawn(async move {
            // Its panic closes the queue: every command is refused, and liveness says so.
            if let Err(error) = committer.await {
                watched.status.failed(&StoreError::NotOpen);
                tracing::error!(target: "STORE", component = "Commit", error = %error, "the committer is gone");
            }
        });
        Ok(Self {
            queue,
            reader,
            shared,
            persistent,
            fallback,
        })
    }

    /// Runs a command in a transaction and answers after the commit.
    ///
    /// # Errors
    /// When it could not be committed; nothing changed then.
    pub async fn commit<C: Command>(&self, command: C) -> Result<C::Outcome> {
        let (reply, answer) = oneshot::channel();
        let slot = Slot {
            command: Some(command),
            outcome: None,
            reply: Some(reply),
        };
        self.submit(Box::new(slot))?;
        answer.await.map_err(|_| StoreError::NotOpen)?
    }

    /// Runs a command that only reads, on a connection of its own, so that it doesn't hold up the committer.
    ///
    /// # Errors
    /// When the store is not open, or the command writes.
    pub async fn read<C: Command>(&self, command: C) -> Result<C::Outcome> {
        let Some(pool) = &self.reader else {
            return self.commit(command).await;
        };
        if !self.connected() {
            return Err(StoreError::NotOpen);
        }
        let mut transaction = pool.begin().await.during("begin_read")?;
        let mut tx = SqliteTx::new(
            &mut transaction,
            self.shared.clock.now(),
            super::sqlite::ChainHead::default(),
        );
        command.run(&mut tx).await
    }

    /// Appends an event without waiting for its commit: for denials that come before a verified credential.
    /// False when half of the queue is taken: the other half is for commands, which strangers can't crowd out.
    pub fn append(&self, draft: EventDraft) -> bool {
        if self.queue.capacity() < QUEUE_LENGTH / 2 {
            return false;
        }
        let slot = Slot {
            command: Some(Append(draft)),
            outcome: None,
            reply: None,
        };
        self.submit(Box::new(slot)).is_ok()
    }

    fn submit(&self, job: Box<dyn Pending>) -> Result<()> {
        self.queue.try_send(Message::Job(job)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => StoreError::NotOpen,
        })
    }

    /// One page of the trail, with every event that was queued before the call.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn events(&self, filter: EventFilter) -> Result<EventPage> {
        if self.reader.is_some() {
            self.commit(Flush).await?;
        }
        self.read(ReadEvents(filter)).await
    }

    /// Whether the committer runs; nothing brings it back but a new process.
    pub fn alive(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Whether what is committed survives the process.
    pub fn persistent(&self) -> bool {
        self.persistent
    }

    /// Whether the store is open.
    pub fn connected(&self) -> bool {
        self.shared.status.open.load(Ordering::SeqCst)
    }

    /// Why the configured store is not open, as a word.
    pub fn failure(&self) -> Option<&'static str> {
        self.fallback.or(*self
            .shared
            .status
            .failure
            .read()
            .unwrap_or_else(PoisonError::into_inner))
    }

    /// Events in the trail.
    pub fn event_count(&self) -> i64 {
        self.shared.status.events.load(Ordering::SeqCst)
    }

    /// The store's epoch: new at creation and at every restore; empty before the store was open.
    pub fn epoch(&self) -> String {
        self.shared
            .status
            .epoch
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Commits what waits, closes the store, and answers when that is done.
    pub async fn close(&self) {
        // Readers first: the last connection to go writes the WAL back into the file.
        if let Some(pool) = &self.reader {
            pool.close().await;
        }
        let (done, closed) = oneshot::channel();
        if self.queue.send(Message::Close(done)).await.is_ok() && closed.await.is_err() {
            tracing::warn!(target: "STORE", component = "Close", "the committer ended before it confirmed the close");
        }
    }
}

/// A command on its way through the committer.
struct Slot<C: Command> {
    command: Option<C>,
    outcome: Option<C::Outcome>,
    reply: Option<oneshot::Sender<Result<C::Outcome>>>,
}

#[async_trait]
impl<C: Command> Pending for Slot<C> {
    async fn run(&mut self, tx: &mut dyn Tx) -> Result<()> {
        if let Some(command) = self.command.take() {
            self.outcome = Some(command.run(tx).await?);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, result: Result<()>) {
        let Self { outcome, reply, .. } = *self;
        let Some(reply) = reply else { return };
        let answer = result.and_then(|()| outcome.ok_or(StoreError::RolledBack));
        if reply.send(answer).is_err() {
            // The caller hung up; what was committed stays committed.
            tracing::trace!(target: "STORE", component = "Commit", "nobody waits for the answer");
        }
    }
}

struct Append(EventDraft);

#[async_trait]
impl Command for Append {
    type Outcome = ();

    async fn run(self, tx: &mut dyn Tx) -> Result<()> {
        tx.audit(self.0);
        Ok(())
    }
}

struct Flush;

#[async_trait]
impl Command for Flush {
    type Outcome = ();

    async fn run(self, _tx: &mut dyn Tx) -> Result<()> {
        Ok(())
    }
}

struct ReadEvents(EventFilter);

#[async_trait]
impl Command for ReadEvents {
    type Outcome = EventPage;

    async fn run(self, tx: &mut dyn Tx) -> Result<EventPage> {
        tx.events(&self.0).await
    }
}
