//! The store as services hold it.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::StoreMark;
use async_trait::async_trait;

use super::command::{Closure, TxFuture};
use super::job::Slot;
use super::{Command, Compared, DiskSpace, EventDraft, EventFilter, EventPage, Result, StoreBackend, StoreError, Tx};

/// Handle of the store, whichever implementation it is.
#[derive(Clone)]
pub struct Store {
    backend: Arc<dyn StoreBackend>,
}

impl Store {
    /// The handle of an implementation.
    pub fn new(backend: impl StoreBackend) -> Self {
        Self {
            backend: Arc::new(backend),
        }
    }

    /// The implementation, when it is this one.
    pub fn backend<B: StoreBackend>(&self) -> Option<&B> {
        let backend: &dyn Any = self.backend.as_ref();
        backend.downcast_ref()
    }

    /// Runs a command in a transaction and answers after the commit.
    ///
    /// # Errors
    /// When it could not be committed; nothing changed then. Also when it issues something while the clock is wrong.
    pub async fn commit<C: Command>(&self, command: C) -> Result<C::Outcome> {
        let (job, answer) = Slot::new(command);
        self.backend.submit(job)?;
        answer.await.map_err(|_| StoreError::NotOpen)?
    }

    /// Runs a command that only reads, so that it doesn't hold up commits.
    ///
    /// # Errors
    /// When the store is not open, or the command writes.
    pub async fn read<C: Command>(&self, command: C) -> Result<C::Outcome> {
        let (job, answer) = Slot::new(command);
        self.backend.read(job).await?;
        answer.await.map_err(|_| StoreError::NotOpen)?
    }

    /// Asks for what no rule decides, so that it doesn't hold up commits:
    /// `store.query(|tx| tx.apps())`, or `Box::pin(async move { … })` where it asks with what it borrows.
    ///
    /// # Errors
    /// When the store is not open, or the closure writes.
    pub async fn query<T, F>(&self, question: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut dyn Tx) -> TxFuture<'t, T> + Send + 'static,
    {
        self.read(Closure(question)).await
    }

    /// Commits one event, and nothing else.
    ///
    /// # Errors
    /// As for [`Store::commit`].
    pub async fn record(&self, event: EventDraft) -> Result<()> {
        self.commit(Record(event)).await
    }

    /// Appends an event without waiting for its commit: for denials that come before a verified credential.
    /// False when half of the queue is taken, or the disk is nearly full: the rest is for commands, which strangers
    /// can't crowd out.
    pub fn append(&self, draft: EventDraft) -> bool {
        self.backend.append(draft)
    }

    /// One page of the trail, with every event that was appended before the call.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn events(&self, filter: EventFilter) -> Result<EventPage> {
        self.backend.settle().await?;
        self.query(move |tx| Box::pin(async move { tx.events(&filter).await }))
            .await
    }

    /// Whether it can work at all; nothing brings one back that can't but a new process.
    pub fn alive(&self) -> bool {
        self.backend.alive()
    }

    /// Whether what is committed survives the process.
    pub fn persistent(&self) -> bool {
        self.backend.persistent()
    }

    /// Whether the store is open.
    pub fn connected(&self) -> bool {
        self.backend.connected()
    }

    /// Why the configured store is not open, as a word.
    pub fn failure(&self) -> Option<&'static str> {
        self.backend.failure()
    }

    /// What to do about it: the setting, and what would be right.
    pub fn failure_advice(&self) -> Option<&'static str> {
        self.backend.failure_advice()
    }

    /// Sets whether only what takes authority away is done.
    pub fn refuse(&self, refuses: bool) {
        self.backend.refuse(refuses);
    }

    /// Whether only what takes authority away is done, since the trail can't be exported.
    pub fn refuses(&self) -> bool {
        self.backend.refuses()
    }

    /// What is known of the disk; nothing for a store in memory.
    pub fn disk_space(&self) -> Option<DiskSpace> {
        self.backend.disk_space()
    }

    /// Whether the disk is down to its reserve.
    pub fn scarce(&self) -> bool {
        self.backend.scarce()
    }

    /// Waits until a segment of the trail is sealed.
    pub async fn sealed(&self) {
        self.backend.sealed().await;
    }

    /// Makes sure that the revocation view is as the store has it, before it is asked about a token. Costs nothing while the
    /// view has heard of the store within the last second.
    ///
    /// # Errors
    /// When it hasn't, and the store can't be asked: nothing is known of any token then.
    pub async fn current_view(&self) -> Result<()> {
        if self.backend.view_age().is_none() {
            return Ok(());
        }
        self.backend.bring_view_up().await
    }

    /// Makes sure that the revocation view is as the store has it now, for a token that it says was renewed: another replica
    /// may have renewed it twice, and this one is the newer. False when the view can't have changed by that.
    ///
    /// # Errors
    /// As for [`Store::current_view`].
    pub async fn newest_view(&self) -> Result<bool> {
        self.backend.bring_view_up().await?;
        Ok(self.shared())
    }

    /// Whether other processes write to it too: what this one hasn't read or written lately may have changed.
    pub fn shared(&self) -> bool {
        self.backend.shared()
    }

    /// How old the revocation view may be, when that is too old for an answer.
    pub fn view_age(&self) -> Option<Duration> {
        self.backend.view_age()
    }

    /// Events in the trail.
    pub fn event_count(&self) -> i64 {
        self.backend.event_count()
    }

    /// The store's epoch: new at creation and at every restore; empty before the store was open.
    pub fn epoch(&self) -> String {
        self.backend.epoch()
    }

    /// Compares the store with the text of a mark that is kept outside it. A store that was put back from a
    /// copy begins a new epoch and refuses all tokens of before.
    ///
    /// # Errors
    /// When the store is not open or fails.
    pub async fn compare(&self, mark: Option<&str>) -> Result<Compared> {
        self.backend.compare(mark).await
    }

    /// Begins a new epoch because a person says so, with this event: all tokens and launch tokens of before are
    /// refused, and agents start over.
    ///
    /// # Errors
    /// When the store is not open or fails.
    pub async fn begin_epoch(&self, event: EventDraft) -> Result<StoreMark> {
        self.backend.begin_epoch(event).await
    }

    /// Commits what waits, closes the store, and answers when that is done; once.
    ///
    /// # Errors
    /// When it fails, or takes more than 10 s: a disk that hangs must not hold up the end of the process.
    pub async fn close(&self) -> Result<()> {
        self.backend.close().await
    }
}

struct Record(EventDraft);

#[async_trait]
impl Command for Record {
    type Outcome = ();

    async fn run(self, tx: &mut dyn Tx) -> Result<()> {
        tx.audit(self.0);
        Ok(())
    }
}
