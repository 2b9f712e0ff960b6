//! The store as the rest of the process holds it: a queue to the committer, a pool for reads.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use agentwrit_protocol::StoreMark;
use agentwrit_store::queue::{CommitQueue, admit};
use agentwrit_store::{
    Compared, DiskSpace, EventDraft, Job, Result, StoreBackend, StoreError, StoreLocation, Surroundings,
};
use async_trait::async_trait;

use super::committer::Committer;
use super::open::{Held, Opened};
use super::options::OpenOptions;
use super::readers::Readers;
use super::shared::Shared;
use super::tx::{SqliteTx, ready};
use super::upkeep::{note_memory_run, opened, remind};

/// The embedded store; one thread, the committer, does the work.
pub struct SqliteStore {
    queue: CommitQueue,
    readers: Option<Readers>,
    shared: Arc<Shared>,
    persistent: bool,
    fallback: Option<&'static str>,
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
        let (held, opening) = opened(&location, &shared).await;
        match opening {
            Ok(opened) => Self::start(location, (Some(opened), held), shared, None),
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
                    return Self::start(location, (None, held), shared, None);
                }
                // The note that it leaves says that there was a broker.
                drop(held);
                let (held, memory) = opened(&StoreLocation::Memory, &shared).await;
                let memory = memory?;
                note_memory_run(&shared);
                Self::start(StoreLocation::Memory, (Some(memory), held), shared, Some(error.kind()))
            }
        }
    }

    /// Starts the committer; `fallback` says why a store in memory stands in for the configured one.
    fn start(
        location: StoreLocation,
        opened: (Option<Opened>, Held),
        shared: Arc<Shared>,
        fallback: Option<&'static str>,
    ) -> Result<Self> {
        let (queue, waiting) = CommitQueue::new();
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
        tokio::spawn(remind(queue.reminder(), Arc::clone(&shared), file));
        Ok(Self {
            queue,
            persistent: readers.is_some(),
            readers,
            shared,
            fallback,
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
        self.queue.put(job)
    }

    async fn closed(&self) -> Result<()> {
        // Readers first: the last connection to go writes the WAL back into the file.
        if let Some(readers) = &self.readers {
            readers.close().await;
        }
        self.queue.closed().await
    }
}

#[async_trait]
impl StoreBackend for SqliteStore {
    fn submit(&self, job: Box<dyn Job>) -> Result<()> {
        admit(job.as_ref(), &self.shared, self.shared.status.min_iat(), self.refuses())?;
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
        if self.shared.status.space.scarce() || self.refuses() {
            return false;
        }
        self.queue.append(draft).is_some_and(|job| self.enqueue(job).is_ok())
    }

    async fn settle(&self) -> Result<()> {
        // In memory too: a batch is sealed after its last command, so that a read doesn't see the events of its own.
        let Some((flush, flushed)) = self.queue.flush() else {
            return Ok(());
        };
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
        self.queue.is_alive()
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
        self.queue.compare(mark).await
    }

    async fn begin_epoch(&self, event: EventDraft) -> Result<StoreMark> {
        self.queue.begin_epoch(event).await
    }

    async fn close(&self) -> Result<()> {
        self.queue.in_time(self.closed()).await
    }
}

#[cfg(test)]
mod tests;
