//! The one writer of this process: a task that gathers the commands that wait into one transaction.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::{Clock, StoreMark};
use agentwrit_store::queue::Message;
use agentwrit_store::status::{LISTS_FREE, LISTS_FULL};
use agentwrit_store::{Compared, EventDraft, Job, Outage, Remembered, Result, StoreError};
use agentwrit_trail::{Links, log_checkpoint};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use crate::answers::{done_but, refuse, unknown};
use crate::ends::{begun_epoch, compared, sign_off};
use crate::error::{gone, hung, outlasts_batch};
use crate::indexes::Indexes;
use crate::open::{Opened, keep_mark, last_batch, open};
use crate::shared::Shared;
use crate::transaction::{Batch, Progress, Published, is_unknown, transaction};

/// Commands in one transaction at most: bounds how long the first of them waits.
const BATCH: usize = 256;
/// What a batch, or something in its place, is called when it hangs.
const HUNG: &str = "batch";
/// How often a store that isn't open is tried.
const REOPEN_EVERY: Duration = Duration::from_secs(1);
/// Ends a failed transaction, and tries whether another one gets the lock and may write.
const ROLL_BACK: &str = "ROLLBACK; BEGIN; SELECT 1 FROM chain_head WHERE id = 1 FOR UPDATE; \
     UPDATE meta SET value = value WHERE key = 'epoch'; ROLLBACK";
/// How long a batch may take; the server ends a statement before, and a wait for a lock.
const LONGEST_BATCH: Duration = Duration::from_secs(20);
/// How long the outcome of a COMMIT is looked for.
const LOOKING: Duration = Duration::from_secs(30);

/// The committer.
pub(crate) struct Committer {
    /// Its name in the database, by which it finds its batches again.
    id: String,
    /// Number of the last batch.
    number: i64,
    opened: Option<Opened>,
    queue: mpsc::Receiver<Message>,
    shared: Arc<Shared>,
    outage: Outage,
    /// Whether it was told that the status lists are full, and they are still.
    told_full: bool,
}

impl Committer {
    pub(crate) fn new(id: String, queue: mpsc::Receiver<Message>, shared: Arc<Shared>) -> Self {
        Self {
            id,
            number: 0,
            opened: None,
            queue,
            shared,
            outage: Outage::default(),
            told_full: false,
        }
    }

    /// Works until the broker stops.
    pub(crate) async fn run(mut self) {
        let mut timer = tokio::time::interval(REOPEN_EVERY);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        timer.reset();
        let mut next = None;
        loop {
            let message = if next.is_some() {
                next.take()
            } else if self.opened.is_none()
                && let Ok(waiting) = self.queue.try_recv()
            {
                // Before the next try, which may take long: these need not wait for it.
                Some(waiting)
            } else {
                tokio::select! {
                    biased;
                    _ = timer.tick() => {
                        self.look_after().await;
                        // An opening may take longer than the interval: those that wait are refused in between.
                        timer.reset();
                        continue;
                    }
                    message = self.queue.recv() => message,
                }
            };
            match message {
                Some(Message::Job(first)) => {
                    next = self.gather(first).await;
                    if self.opened.is_none() {
                        timer.reset();
                    }
                }
                Some(Message::Reopen) => self.look_after().await,
                Some(Message::Compare(remembered, reply)) => {
                    let compared = self.compare(remembered).await;
                    if reply.send(compared).is_err() {
                        tracing::trace!(target: "STORE", component = "Mark", "nobody waits for the answer");
                    }
                }
                Some(Message::BeginEpoch(event, reply)) => {
                    let begun = self.begin_epoch(*event).await;
                    if reply.send(begun).is_err() {
                        tracing::trace!(target: "STORE", component = "Epoch", "nobody waits for the answer");
                    }
                }
                Some(Message::Close(done)) => return self.close(done).await,
                None => return,
            }
        }
    }

    /// Commits one batch; returns what was met on the way and comes after it.
    async fn gather(&mut self, first: Box<dyn Job>) -> Option<Message> {
        let mut jobs = vec![first];
        let mut next = None;
        // Tasks that are about to send something get the processor first: a small batch costs nearly as much as a large one.
        tokio::task::yield_now().await;
        while jobs.len() < BATCH {
            match self.queue.try_recv() {
                Ok(Message::Job(job)) => jobs.push(job),
                Ok(message) => {
                    next = Some(message);
                    break;
                }
                Err(_) => break,
            }
        }
        self.batch(jobs).await;
        next
    }

    async fn batch(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        self.number = self.number.saturating_add(1);
        let Some(opened) = self.opened.as_mut() else {
            for job in jobs {
                job.finish(Err(StoreError::NotOpen));
            }
            return;
        };
        let takes_authority = jobs.iter().any(|job| job.takes_authority());
        let begun = self.shared.clock.monotonic();
        let batch = Batch {
            committer: &self.id,
            number: self.number,
        };
        let mut progress = Progress::default();
        let running = transaction(opened, &self.shared, batch, &mut jobs, &mut progress);
        let done = tokio::time::timeout(LONGEST_BATCH, running).await;
        match done.unwrap_or_else(|_| Err(hung(HUNG))) {
            Ok(published) => {
                opened.mark_kept = published.mark_kept.or(opened.mark_kept);
                self.tell_of_lists(&published.indexes, !progress.refused.is_empty());
                self.publish(published, begun);
                if takes_authority {
                    // Before the answer: a copy from before this commit must not pass for the store.
                    keep_mark(&self.shared).await;
                }
                done_but(jobs, &progress.refused);
            }
            Err(error) => {
                self.report(&error);
                let types = progress.committing.take().filter(|_| is_unknown(&error));
                if let Some(types) = types {
                    self.look_up(types, jobs, &progress.refused, error).await;
                } else {
                    let is_usable = self.roll_back(&error).await;
                    // Nobody waits for what comes of another opening.
                    refuse(jobs, progress.job, error);
                    if !is_usable {
                        self.reopen().await;
                    }
                }
            }
        }
    }

    fn publish(&self, published: Published, begun: Duration) {
        let shared = &self.shared;
        let Links {
            head,
            checkpoint,
            sealed,
            ..
        } = &published.links;
        if !published.links.events.is_empty() {
            let took = shared.clock.monotonic().saturating_sub(begun);
            shared.observer.audit_write_took(took);
            shared.observer.audited(&published.links.event_types());
        }
        shared.status.advanced(head);
        shared.observer.trail_takes(head.kept.bytes(), head.kept.segments);
        if !sealed.is_empty() {
            shared.sealed.notify_one();
        }
        if let Some(checkpoint) = checkpoint {
            log_checkpoint(checkpoint);
        }
        shared.view.publish(shared, published.changes);
    }

    /// Tells of the status lists when they have changed, or become full.
    fn tell_of_lists(&mut self, indexes: &Indexes, has_refused: bool) {
        indexes.committed(&self.shared);
        if has_refused && !std::mem::replace(&mut self.told_full, true) {
            tracing::error!(target: "STORE", component = "StatusIndex", "{LISTS_FULL}");
        }
        if self.told_full && !indexes.is_full() {
            self.told_full = false;
            tracing::info!(target: "STORE", component = "StatusIndex", "{LISTS_FREE}");
        }
    }

    /// Finds out whether a COMMIT whose answer was lost has happened, and answers accordingly. What it has changed is in
    /// the view that is loaded with the new opening.
    async fn look_up(&mut self, types: Vec<String>, jobs: Vec<Box<dyn Job>>, refused: &[usize], error: StoreError) {
        self.opened = None;
        self.away(&error);
        let looking = async {
            loop {
                self.reopen().await;
                if let Some(opened) = &self.opened {
                    match last_batch(&opened.client, &self.id).await {
                        Ok(last) => break last >= self.number,
                        Err(error) => {
                            self.opened = None;
                            self.away(&error);
                        }
                    }
                }
                tokio::time::sleep(REOPEN_EVERY).await;
            }
        };
        let committed = tokio::time::timeout(LOOKING, looking).await;
        tracing::info!(target: "STORE", component = "Commit", batch = self.number, committed = ?committed.as_ref().ok(),
            "looked for a commit whose answer was lost");
        match committed {
            Ok(true) => {
                let types: Vec<&str> = types.iter().map(String::as_str).collect();
                self.shared.observer.audited(&types);
                done_but(jobs, refused);
            }
            Ok(false) => {
                let last = jobs.len().saturating_sub(1);
                refuse(jobs, last, error);
            }
            Err(_) => unknown(jobs),
        }
    }

    fn report(&self, error: &StoreError) {
        self.shared.observer.failed(error.operation());
        tracing::error!(target: "STORE", component = "Commit", operation = error.operation(), error = %error, "batch rolled back");
    }

    /// Takes note that the store can't be used.
    fn away(&mut self, error: &StoreError) {
        self.shared.status.failed(error);
        self.shared.observer.failed(error.operation());
        if let Some(failures) = self.outage.failed(self.shared.clock.monotonic()) {
            tracing::error!(target: "STORE", component = "InitDB", operation = error.operation(), error = %error, failures,
                "the store can't be used; it is tried each second");
        }
    }

    /// Ends the failed transaction. When it failed for more than its own content (the connection is gone, somebody holds the
    /// lock, the disk is full), the store is away, and has to be opened by another one, with the chain and the view as they are
    /// there: then it answers false.
    async fn roll_back(&mut self, error: &StoreError) -> bool {
        let Some(opened) = self.opened.take() else { return true };
        if !outlasts_batch(error) {
            let rolling = tokio::time::timeout(REOPEN_EVERY, opened.client.batch_execute(ROLL_BACK));
            if matches!(rolling.await, Ok(Ok(()))) {
                self.opened = Some(opened);
                return true;
            }
        }
        drop(opened);
        self.away(error);
        false
    }

    /// What is done each second.
    async fn look_after(&mut self) {
        match &self.opened {
            Some(opened) if opened.client.is_closed() => {
                self.opened = None;
                self.away(&gone("connection"));
                self.reopen().await;
            }
            Some(_) => keep_mark(&self.shared).await,
            None => {
                self.reopen().await;
            }
        }
    }

    /// Opens the store; why it can't be opened now.
    pub(crate) async fn reopen(&mut self) -> Option<StoreError> {
        match open(&self.shared, &self.id).await {
            Ok(opened) => {
                let failures = self.outage.over();
                if failures > 0 {
                    tracing::info!(target: "STORE", component = "InitDB", failures, "store open again");
                }
                self.opened = Some(opened);
                None
            }
            Err(error) => {
                self.away(&error);
                Some(error)
            }
        }
    }

    /// Compares the store with what is remembered of it outside; a restored one begins a new epoch.
    async fn compare(&mut self, remembered: Remembered) -> Result<Compared> {
        let Some(opened) = &self.opened else {
            return Err(StoreError::NotOpen);
        };
        let comparing = compared(opened, &self.shared, remembered);
        let compared = tokio::time::timeout(LONGEST_BATCH, comparing).await;
        self.known_again(compared.unwrap_or_else(|_| Err(hung(HUNG)))).await
    }

    /// Begins an epoch for a person.
    async fn begin_epoch(&mut self, event: EventDraft) -> Result<StoreMark> {
        let Some(opened) = &self.opened else {
            return Err(StoreError::NotOpen);
        };
        let beginning = begun_epoch(opened, &self.shared, event);
        let begun = tokio::time::timeout(LONGEST_BATCH, beginning).await;
        self.known_again(begun.unwrap_or_else(|_| Err(hung(HUNG)))).await
    }

    /// What came of something that may begin an epoch. When it failed, whether the epoch was committed is known only
    /// after a look.
    async fn known_again<T>(&mut self, done: Result<T>) -> Result<T> {
        if let Err(error) = &done
            && self.opened.take().is_some()
        {
            self.report(error);
            self.reopen().await;
        }
        done
    }

    async fn close(mut self, done: oneshot::Sender<Result<()>>) {
        self.queue.close();
        let mut rest = Vec::new();
        while let Some(message) = self.queue.recv().await {
            if let Message::Job(job) = message {
                rest.push(job);
                if rest.len() >= BATCH {
                    self.batch(std::mem::take(&mut rest)).await;
                }
            }
        }
        if !rest.is_empty() {
            self.batch(rest).await;
        }
        let signed = match &self.opened {
            Some(opened) => sign_off(opened, &self.shared).await,
            None => Ok(()),
        };
        if let Err(error) = &signed {
            self.report(error);
        }
        if self.opened.take().is_some() {
            keep_mark(&self.shared).await;
        }
        if done.send(signed).is_err() {
            tracing::trace!(target: "STORE", component = "Close", "nobody waits for the close");
        }
    }
}
