//! The store as the rest of the process holds it: a queue to the committer, a pool for reads.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agentwrit_protocol::StoreMark;
use agentwrit_protocol::wall_clock::is_wrong;
use agentwrit_store::internal_jobs::{Append, Flush, Unconfirmed};
use agentwrit_store::{
    Compared, DiskSpace, EventDraft, Job, Remembered, Result, StoreBackend, StoreError, Surroundings,
};
use agentwrit_trail::new_epoch;
use async_trait::async_trait;
use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::committer::{Committer, Message};
use crate::feed::follow;
use crate::options::OpenOptions;
use crate::readers::Readers;
use crate::shared::Shared;

/// Commands that may wait; more are refused with 503.
const QUEUE_LENGTH: usize = 4096;
/// Of those, only commands that take authority away may use the last ones.
const AUTHORITY_RESERVE: usize = 1024;
/// How long the close may take.
const CLOSE: Duration = Duration::from_secs(10);

/// The store on PostgreSQL; one task, the committer, writes.
pub struct PostgresStore {
    queue: mpsc::Sender<Message>,
    readers: Readers,
    /// The task that hears of other replicas.
    following: AbortHandle,
    shared: Arc<Shared>,
    /// Events that are queued without a waiting caller.
    unconfirmed: Arc<AtomicUsize>,
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.following.abort();
    }
}

impl PostgresStore {
    /// Opens a store. One that can't open is tried again each second; [`StoreBackend::failure`] says why meanwhile.
    ///
    /// # Errors
    /// [`StoreError::OtherInstallation`] when it is another's; when there is no randomness for the committer's name, or no
    /// pool can be made.
    pub async fn open(options: OpenOptions, surroundings: Surroundings) -> Result<Self> {
        let shared = Arc::new(Shared::new(options, surroundings));
        let (queue, waiting) = mpsc::channel(QUEUE_LENGTH);
        let readers = Readers::new(&shared.settings)?;
        // As random as an epoch.
        let id = new_epoch(shared.entropy.as_ref())?;
        let mut committer = Committer::new(id, waiting, Arc::clone(&shared));
        if let Some(error @ StoreError::OtherInstallation { .. }) = committer.reopen().await {
            return Err(error);
        }
        let watched = Arc::clone(&shared);
        tokio::spawn(async move {
            // Its panic closes the queue: every command is refused, and liveness says so.
            if AssertUnwindSafe(committer.run()).catch_unwind().await.is_err() {
                watched.status.failed(&StoreError::NotOpen);
                tracing::error!(target: "STORE", component = "Commit", "the committer is gone");
            }
        });
        let following = tokio::spawn(follow(Arc::clone(&shared)));
        Ok(Self {
            queue,
            readers,
            following: following.abort_handle(),
            shared,
            unconfirmed: Arc::default(),
        })
    }

    fn enqueue(&self, job: Box<dyn Job>) -> Result<()> {
        // At once, for the committer may be busy with opening the store again.
        if !self.connected() {
            return Err(StoreError::NotOpen);
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
        let (done, closed) = oneshot::channel();
        let sent = self.queue.send(Message::Close(done)).await;
        sent.map_err(|_| self.not_closed())?;
        let closed = closed.await.unwrap_or_else(|_| Err(self.not_closed()));
        self.readers.close();
        self.following.abort();
        closed
    }

    fn not_closed(&self) -> StoreError {
        StoreError::NotClosed {
            waiting: self.queue.max_capacity().saturating_sub(self.queue.capacity()),
        }
    }
}

#[async_trait]
impl StoreBackend for PostgresStore {
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

    async fn read(&self, job: Box<dyn Job>) -> Result<()> {
        if !self.connected() {
            return Err(StoreError::NotOpen);
        }
        self.readers.read(&self.shared, job).await
    }

    fn append(&self, draft: EventDraft) -> bool {
        if self.queue.capacity() < QUEUE_LENGTH / 2 || self.refuses() {
            return false;
        }
        let unconfirmed = Unconfirmed::new(&self.unconfirmed);
        self.enqueue(Box::new(Append::new(draft, unconfirmed))).is_ok()
    }

    async fn settle(&self) -> Result<()> {
        // Callers that wait for an answer have seen a commit; only events without a waiting caller may still be queued.
        if self.unconfirmed.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        let (flush, flushed) = Flush::new();
        self.enqueue(Box::new(flush))?;
        flushed.await.map_err(|_| StoreError::NotOpen)?
    }

    fn alive(&self) -> bool {
        !self.queue.is_closed()
    }

    fn persistent(&self) -> bool {
        true
    }

    fn connected(&self) -> bool {
        self.shared.status.open.load(Ordering::SeqCst)
    }

    fn failure(&self) -> Option<&'static str> {
        self.shared.status.failure.read().map(|failure| failure.kind)
    }

    fn failure_advice(&self) -> Option<&'static str> {
        (*self.shared.status.failure.read())?.advice
    }

    fn refuse(&self, refuses: bool) {
        if self.shared.status.refusing.swap(refuses, Ordering::SeqCst) == refuses {
            return;
        }
        if refuses {
            tracing::error!(target: "AUDIT", component = "Retention",
                "the audit trail can't be exported and must be cut: only what takes authority away is done, until an \
                 export succeeds");
        } else {
            tracing::info!(target: "AUDIT", component = "Retention", "everything is done again");
        }
    }

    fn refuses(&self) -> bool {
        self.shared.status.refusing.load(Ordering::SeqCst)
    }

    fn disk_space(&self) -> Option<DiskSpace> {
        None
    }

    fn scarce(&self) -> bool {
        false
    }

    async fn sealed(&self) {
        self.shared.sealed.notified().await;
    }

    fn view_age(&self) -> Option<Duration> {
        let view = &self.shared.view;
        let now = self.shared.clock.monotonic();
        if view.is_current(now) {
            return None;
        }
        Some(view.age(now).unwrap_or(Duration::MAX))
    }

    async fn bring_view_up(&self) -> Result<bool> {
        if self.shared.view.seq().is_none() {
            return Err(StoreError::NotOpen);
        }
        self.readers.bring_up(&self.shared).await.map(|()| true)
    }

    fn event_count(&self) -> i64 {
        self.shared.status.events.load(Ordering::SeqCst)
    }

    fn epoch(&self) -> String {
        self.shared.status.mark().epoch
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
