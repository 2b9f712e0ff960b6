//! The store as the rest of the process holds it: a queue to the committer, a pool for reads.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agentwrit_protocol::StoreMark;
use agentwrit_store::queue::{CommitQueue, admit};
use agentwrit_store::{Compared, DiskSpace, EventDraft, Job, Result, StoreBackend, StoreError, Surroundings};
use agentwrit_trail::new_epoch;
use async_trait::async_trait;
use futures_util::FutureExt;
use tokio::task::AbortHandle;

use crate::committer::Committer;
use crate::feed::follow;
use crate::held::keep_known;
use crate::options::OpenOptions;
use crate::readers::Readers;
use crate::shared::Shared;

/// The store on PostgreSQL; one task, the committer, writes.
pub struct PostgresStore {
    queue: CommitQueue,
    readers: Readers,
    /// The tasks that hear of other replicas, and that learn which status indexes are held.
    beside: [AbortHandle; 2],
    shared: Arc<Shared>,
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.end_beside();
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
        let (queue, waiting) = CommitQueue::new();
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
        let beside = [
            tokio::spawn(follow(Arc::clone(&shared))).abort_handle(),
            tokio::spawn(keep_known(Arc::clone(&shared))).abort_handle(),
        ];
        Ok(Self {
            queue,
            readers,
            beside,
            shared,
        })
    }

    fn enqueue(&self, job: Box<dyn Job>) -> Result<()> {
        // At once, for the committer may be busy with opening the store again.
        if !self.connected() {
            return Err(StoreError::NotOpen);
        }
        self.queue.put(job)
    }

    async fn closed(&self) -> Result<()> {
        let closed = self.queue.closed().await;
        self.readers.close();
        self.end_beside();
        closed
    }

    fn end_beside(&self) {
        for task in &self.beside {
            task.abort();
        }
    }
}

#[async_trait]
impl StoreBackend for PostgresStore {
    fn submit(&self, job: Box<dyn Job>) -> Result<()> {
        admit(job.as_ref(), &self.shared, self.shared.status.min_iat(), self.refuses())?;
        self.enqueue(job)
    }

    async fn read(&self, job: Box<dyn Job>) -> Result<()> {
        if !self.connected() {
            return Err(StoreError::NotOpen);
        }
        self.readers.read(&self.shared, job).await
    }

    fn append(&self, draft: EventDraft) -> bool {
        if self.refuses() {
            return false;
        }
        self.queue.append(draft).is_some_and(|job| self.enqueue(job).is_ok())
    }

    async fn settle(&self) -> Result<()> {
        let Some((flush, flushed)) = self.queue.flush() else {
            return Ok(());
        };
        self.enqueue(Box::new(flush))?;
        flushed.await.map_err(|_| StoreError::NotOpen)?
    }

    fn alive(&self) -> bool {
        self.queue.is_alive()
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

    fn shared(&self) -> bool {
        true
    }

    async fn bring_view_up(&self) -> Result<()> {
        if self.shared.view.seq().is_none() {
            return Err(StoreError::NotOpen);
        }
        self.readers.bring_up(&self.shared).await
    }

    fn event_count(&self) -> i64 {
        self.shared.status.events.load(Ordering::SeqCst)
    }

    fn epoch(&self) -> String {
        self.shared.status.mark().epoch
    }

    async fn compare(&self, mark: Option<&str>) -> Result<Compared> {
        self.queue.compare(mark).await
    }

    async fn begin_epoch(&self, event: EventDraft) -> Result<StoreMark> {
        self.queue.begin_epoch(event).await
    }

    async fn close(&self) -> Result<()> {
        self.queue.in_time(self.closed()).await
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use agentwrit_protocol::UnixSeconds;
    use agentwrit_protocol::status_list::Bounds;
    use agentwrit_store::session::freed_until;
    use agentwrit_store::testing::suite::Bench;
    use agentwrit_store::testing::suite::rows::session;
    use agentwrit_store::testing::{START, surroundings};

    use super::*;
    use crate::held;
    use crate::testing::Database;

    const BOUNDS: Bounds = Bounds {
        entries: 100,
        at_least_free: 10,
        lists: 1,
    };

    #[tokio::test]
    async fn what_another_replica_has_drawn_is_known_after_a_load() {
        let database = Database::new();
        let one = Bench::open_with(&database, BOUNDS).await;
        let mut around = surroundings().0;
        around.status_lists = BOUNDS;
        let two = PostgresStore::open(database.options(), around).await.unwrap();
        for number in 0..70 {
            let (sid, jti) = (
                format!("{number:016x}00000000000000aa"),
                format!("{number:016x}00000000000000bb"),
            );
            let insert =
                one.commit(move |tx| Box::pin(async move { tx.insert_session(&mut session(&sid, &jti)).await }));
            insert.await.unwrap();
        }
        held::load(&two.shared).await.unwrap();
        let swept = freed_until(UnixSeconds::new(START).start());
        assert_eq!(two.shared.held.others(1, swept), 30);
    }
}
