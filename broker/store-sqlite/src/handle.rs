//! The store as the rest of the process holds it: a queue to the committer, a pool for reads.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agentwrit_protocol::StoreMark;
use agentwrit_protocol::wall_clock::is_wrong;
use agentwrit_store::internal_jobs::{Append, Flush, Unconfirmed};
use agentwrit_store::{
    Compared, DiskSpace, EventDraft, Job, Remembered, Result, StoreBackend, StoreError, StoreLocation, Surroundings,
};
use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::committer::{Committer, Message};
use super::open::Opened;
use super::options::OpenOptions;
use super::readers::Readers;
use super::shared::Shared;
use super::tx::{SqliteTx, ready};
use super::upkeep::{note_memory_run, opened, remind};

/// Commands that may wait; more are refused with 503.
const QUEUE_LENGTH: usize = 4096;
/// Of those, only commands that take authority away may use the last ones.
const AUTHORITY_RESERVE: usize = 1024;
/// How long the close may take.
const CLOSE: Duration = Duration::from_secs(10);

/// The embedded store; one thread, the committer, does the work.
pub struct SqliteStore {
    queue: mpsc::Sender<Message>,
    readers: Option<Readers>,
    shared: Arc<Shared>,
    persistent: bool,
    fallback: Option<&'static str>,
    /// Events that are queued without a waiting caller.
    unconfirmed: Arc<AtomicUsize>,
}

impl SqliteStore {
    /// Opens a store. One that can't open is retried each second when it is `required`, and stood in for by memory
    /// when it isn't.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process holds it, [`StoreError::OtherInstallation`] when it is another's,
    /// [`StoreError::Moved`] when its content is elsewhere; any error of a store in memory.
    pub async fn open(options: OpenOptions, surroundings: Surroundings) -> Result<Self> {
        let shared = Arc::new(Shared::new(&options, surroundings));
        let OpenOptions { location, required, .. } = options;
        match opened(&location, &shared).await {
            Ok(opened) => Self::start(location, Some(opened), shared, None),
            // None mends itself, and memory would hide it.
            Err(
                error @ (StoreError::Locked { .. } | StoreError::OtherInstallation { .. } | StoreError::Moved { .. }),
            ) => Err(error),
            Err(error) if location == StoreLocation::Memory => Err(error),
            Err(error) => {
                shared.observer.failed(error.operation());
                tracing::error!(target: "STORE", component = "InitDB", error = %error, required, "store can't be opened");
                shared.status.failed(&error);
                if required {
                    return Self::start(location, None, shared, None);
                }
                let memory = opened(&StoreLocation::Memory, &shared).await?;
                note_memory_run(&shared);
                Self::start(StoreLocation::Memory, Some(memory), shared, Some(error.kind()))
            }
        }
    }

    /// Starts the committer; `fallback` says why a store in memory stands in for the configured one.
    fn start(
        location: StoreLocation,
        opened: Option<Opened>,
        shared: Arc<Shared>,
        fallback: Option<&'static str>,
    ) -> Result<Self> {
        let (queue, waiting) = mpsc::channel(QUEUE_LENGTH);
        let file = location.path().map(Path::to_owned);
        let readers = file.clone().map(Readers::new);
        let committer = Committer::new(location, opened, waiting, Arc::clone(&shared));
        let watched = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("committer".to_owned());
        let run = move || {
            // Its panic closes the queue: every command is refused, and liveness says so.
            if std::panic::catch_unwind(AssertUnwindSafe(|| committer.run())).is_err() {
                watched.status.failed(&StoreError::NotOpen);
                tracing::error!(target: "STORE", component = "Commit", "the committer is gone");
            }
        };
        thread.spawn(run).map_err(|source| StoreError::File {
            path: "committer thread".to_owned(),
            source,
        })?;
        tokio::spawn(remind(queue.downgrade(), Arc::clone(&shared), file));
        Ok(Self {
            queue,
            persistent: readers.is_some(),
            readers,
            shared,
            fallback,
            unconfirmed: Arc::default(),
        })
    }

    /// Acts until the next look as if so many bytes were free on a large disk, for tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn set_free(&self, bytes: u64) {
        self.shared.status.space.set_free(bytes);
    }

    fn enqueue(&self, job: Box<dyn Job>) -> Result<()> {
        // At once, for the committer may be busy with opening the store again.
        if self.readers.is_some() && !self.connected() {
            return Err(StoreError::NotOpen);
        }
        if self.shared.status.space.full() && !job.uses_reserves() {
            return Err(StoreError::DiskFull);
        }
        if !job.uses_reserves() && self.queue.capacity() <= AUTHORITY_RESERVE {
            return Err(StoreError::QueueFull);
        }
        self.send(Message::Job(job))
    }

    fn send(&self, message: Message) -> Result<()> {
        self.queue.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => StoreError::NotOpen,
        })
    }

    async fn closed(&self) -> Result<()> {
        // Readers first: the last connection to go writes the WAL back into the file.
        if let Some(readers) = &self.readers {
            readers.close().await;
        }
        let (done, closed) = oneshot::channel();
        let sent = self.queue.send(Message::Close(done)).await;
        sent.map_err(|_| self.not_closed())?;
        closed.await.unwrap_or_else(|_| Err(self.not_closed()))
    }

    fn not_closed(&self) -> StoreError {
        StoreError::NotClosed {
            waiting: self.queue.max_capacity().saturating_sub(self.queue.capacity()),
        }
    }
}

#[async_trait]
impl StoreBackend for SqliteStore {
    fn submit(&self, job: Box<dyn Job>) -> Result<()> {
        let status = &self.shared.status;
        if job.issues() && is_wrong(self.shared.judging.times(), status.min_iat()) {
            return Err(StoreError::Clock);
        }
        if job.issues() && !self.shared.signer.can_sign_tokens() {
            return Err(StoreError::SigningKey);
        }
        if !job.uses_reserves() && self.refuses() {
            return Err(StoreError::AuditFull);
        }
        self.enqueue(job)
    }

    async fn read(&self, mut job: Box<dyn Job>) -> Result<()> {
        let Some(readers) = &self.readers else {
            return self.enqueue(job);
        };
        if !self.connected() {
            return Err(StoreError::NotOpen);
        }
        let shared = Arc::clone(&self.shared);
        let opening = self.shared.status.openings.load(Ordering::SeqCst);
        let done = readers
            .run(opening, move |connection| {
                let mut tx = SqliteTx::new(connection, &shared, None);
                ready(job.run(&mut tx))?;
                Ok(job)
            })
            .await?;
        done.finish(Ok(()));
        Ok(())
    }

    fn append(&self, draft: EventDraft) -> bool {
        if self.queue.capacity() < QUEUE_LENGTH / 2 || self.shared.status.space.scarce() || self.refuses() {
            return false;
        }
        let unconfirmed = Unconfirmed::new(&self.unconfirmed);
        self.enqueue(Box::new(Append::new(draft, unconfirmed))).is_ok()
    }

    async fn settle(&self) -> Result<()> {
        // Callers that wait for an answer have seen a commit; only events without a waiting caller may still be queued.
        // In memory too: a batch is sealed after its last command, so that a read doesn't see the events of its own.
        if self.unconfirmed.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        let (flush, flushed) = Flush::new();
        let settled = match self.enqueue(Box::new(flush)) {
            Ok(()) => flushed.await.map_err(|_| StoreError::NotOpen)?,
            Err(error) => Err(error),
        };
        match settled {
            // What was queued is refused as well.
            Err(StoreError::DiskFull) => Ok(()),
            other => other,
        }
    }

    fn alive(&self) -> bool {
        !self.queue.is_closed()
    }

    fn persistent(&self) -> bool {
        self.persistent
    }

    fn connected(&self) -> bool {
        self.shared.status.open.load(Ordering::SeqCst)
    }

    fn failure(&self) -> Option<&'static str> {
        let status = &self.shared.status;
        let failure = *status.failure.read();
        self.fallback.or(failure)
    }

    fn refuse(&self, refuses: bool) {
        if self.shared.status.refusing.swap(refuses, Ordering::SeqCst) == refuses {
            return;
        }
        if refuses {
            tracing::error!(target: "AUDIT", component = "Retention",
                "the audit trail can't be exported and the disk is nearly full: only what takes authority away is done, \
                 until an export succeeds or there is room again");
        } else {
            tracing::info!(target: "AUDIT", component = "Retention", "everything is done again");
        }
    }

    fn refuses(&self) -> bool {
        self.shared.status.refusing.load(Ordering::SeqCst)
    }

    fn disk_space(&self) -> Option<DiskSpace> {
        self.shared.status.space.now()
    }

    fn scarce(&self) -> bool {
        self.shared.status.space.scarce()
    }

    async fn sealed(&self) {
        self.shared.sealed.notified().await;
    }

    fn event_count(&self) -> i64 {
        self.shared.status.events.load(Ordering::SeqCst)
    }

    fn epoch(&self) -> String {
        let mark = self.shared.status.mark.read();
        mark.epoch.clone()
    }

    async fn compare(&self, mark: Option<&str>) -> Result<Compared> {
        let remembered = mark.map_or(Remembered::Nothing, Remembered::from_text);
        let (reply, answer) = oneshot::channel();
        self.send(Message::Compare(remembered, reply))?;
        answer.await.map_err(|_| StoreError::NotOpen)?
    }

    async fn begin_epoch(&self, event: EventDraft) -> Result<StoreMark> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::BeginEpoch(Box::new(event), reply))?;
        answer.await.map_err(|_| StoreError::NotOpen)?
    }

    async fn close(&self) -> Result<()> {
        let closed = tokio::time::timeout(CLOSE, self.closed()).await;
        closed.unwrap_or_else(|_| Err(self.not_closed()))
    }
}

#[cfg(test)]
mod tests;
