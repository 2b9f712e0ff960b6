//! The queue to the one task or thread of a store that commits, and what may wait in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agentwrit_protocol::wall_clock::is_wrong;
use agentwrit_protocol::{StoreMark, UnixSeconds};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::internal_jobs::{Append, Flush, Unconfirmed};
use crate::{Compared, EventDraft, Job, Remembered, Result, StoreError, Surroundings};

/// Commands that may wait; more are refused with 503.
pub const LENGTH: usize = 4096;
/// Of those, only commands that take authority away may use the last ones.
pub const AUTHORITY_RESERVE: usize = 1024;
/// How long the close may take.
const CLOSE: Duration = Duration::from_secs(10);

/// What the committer is sent.
pub enum Message {
    /// Work.
    Job(Box<dyn Job>),
    /// Try again to open a store that isn't.
    Reopen,
    /// Compare the store with what is remembered of it outside.
    Compare(Remembered, oneshot::Sender<Result<Compared>>),
    /// A person begins an epoch, with this event.
    BeginEpoch(Box<EventDraft>, oneshot::Sender<Result<StoreMark>>),
    /// The broker stops: close the store and confirm.
    Close(oneshot::Sender<Result<()>>),
}

/// The queue of a committer.
pub struct CommitQueue {
    sender: mpsc::Sender<Message>,
    /// Events that are queued without a waiting caller.
    unconfirmed: Arc<AtomicUsize>,
}

impl CommitQueue {
    /// The queue, and the end that the committer takes from.
    pub fn new() -> (Self, mpsc::Receiver<Message>) {
        let (sender, waiting) = mpsc::channel(LENGTH);
        let queue = Self {
            sender,
            unconfirmed: Arc::default(),
        };
        (queue, waiting)
    }

    /// Puts a job in.
    ///
    /// # Errors
    /// When there is no place for it, or no committer.
    pub fn put(&self, job: Box<dyn Job>) -> Result<()> {
        if !job.uses_reserves() && self.sender.capacity() <= AUTHORITY_RESERVE {
            return Err(StoreError::QueueFull);
        }
        self.send(Message::Job(job))
    }

    fn send(&self, message: Message) -> Result<()> {
        self.sender.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::QueueFull,
            TrySendError::Closed(_) => StoreError::NotOpen,
        })
    }

    /// The job of an event without a waiting caller; `None` when half of the queue is taken, which is left to others.
    pub fn append(&self, draft: EventDraft) -> Option<Box<dyn Job>> {
        if self.sender.capacity() < LENGTH / 2 {
            return None;
        }
        Some(Box::new(Append::new(draft, Unconfirmed::new(&self.unconfirmed))))
    }

    /// The job after which all such events so far are decided, and where its outcome arrives; `None` when there are none:
    /// callers that wait for an answer have seen a commit.
    pub fn flush(&self) -> Option<(Flush, oneshot::Receiver<Result<()>>)> {
        if self.unconfirmed.load(Ordering::SeqCst) == 0 {
            return None;
        }
        Some(Flush::new())
    }

    /// Whether there is a committer.
    pub fn is_alive(&self) -> bool {
        !self.sender.is_closed()
    }

    /// What reminds the committer, as long as there is a queue.
    pub fn reminder(&self) -> mpsc::WeakSender<Message> {
        self.sender.downgrade()
    }

    /// Has the committer compare the store with the text of a mark.
    ///
    /// # Errors
    /// When it can't, or fails.
    pub async fn compare(&self, mark: Option<&str>) -> Result<Compared> {
        let remembered = mark.map_or(Remembered::Nothing, Remembered::from_text);
        let (reply, answer) = oneshot::channel();
        self.send(Message::Compare(remembered, reply))?;
        answer.await.map_err(|_| StoreError::NotOpen)?
    }

    /// Has the committer begin an epoch, with this event.
    ///
    /// # Errors
    /// When it can't, or fails.
    pub async fn begin_epoch(&self, event: EventDraft) -> Result<StoreMark> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::BeginEpoch(Box::new(event), reply))?;
        answer.await.map_err(|_| StoreError::NotOpen)?
    }

    /// Has the committer commit what waits and close the store.
    ///
    /// # Errors
    /// When it fails.
    pub async fn closed(&self) -> Result<()> {
        let (done, closed) = oneshot::channel();
        let sent = self.sender.send(Message::Close(done)).await;
        sent.map_err(|_| self.not_closed())?;
        closed.await.unwrap_or_else(|_| Err(self.not_closed()))
    }

    /// A close that may take so long and no longer.
    ///
    /// # Errors
    /// Those of the close, or that it takes too long.
    pub async fn in_time(&self, closing: impl Future<Output = Result<()>>) -> Result<()> {
        let closed = tokio::time::timeout(CLOSE, closing).await;
        closed.unwrap_or_else(|_| Err(self.not_closed()))
    }

    fn not_closed(&self) -> StoreError {
        StoreError::NotClosed {
            waiting: self.sender.max_capacity().saturating_sub(self.sender.capacity()),
        }
    }
}

/// Whether a job may be queued at this moment, as far as it isn't about the queue or the disk. `refuses`: see
/// [`StoreBackend::refuse`](crate::StoreBackend::refuse).
///
/// # Errors
/// Why it may not.
pub fn admit(job: &dyn Job, around: &Surroundings, min_iat: UnixSeconds, refuses: bool) -> Result<()> {
    if job.issues() && is_wrong(around.judging.times(), min_iat) {
        return Err(StoreError::Clock);
    }
    if job.issues() && !around.signer.can_sign_tokens() {
        return Err(StoreError::SigningKey);
    }
    if !job.uses_reserves() && refuses {
        return Err(StoreError::AuditFull);
    }
    Ok(())
}
