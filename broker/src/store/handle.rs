//! The store as services hold it: a queue to the committer, a pool for reads.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use agentwrit_protocol::StoreMark;
use async_trait::async_trait;
use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use super::space::{Room, Space};
use super::sqlite::SqliteTx;
use super::sqlite::committer::{Committer, Message, Pending, Shared};
use super::sqlite::open::{Opened, open};
use super::sqlite::readers::Readers;
use super::{Command, EventDraft, EventFilter, EventPage, Remembered, Result, StoreError, Tx};
use crate::metrics::Metrics;
use agentwrit_protocol::wall_clock::is_wrong;

/// Commands that may wait; more are refused with 503.
const QUEUE_LENGTH: usize = 4096;
/// Of those, only commands that take authority away may use the last ones.
const AUTHORITY_RESERVE: usize = 1024;
const REOPEN_EVERY: Duration = Duration::from_secs(1);
/// How long the close may take.
const CLOSE: Duration = Duration::from_secs(10);

/// Where a store lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreKind {
    /// One file, its WAL and its lock file beside it.
    File(std::path::PathBuf),
    /// Memory only, by choice (`AA_DB_PATH=""`) or because the file can't open.
    Memory,
}

impl StoreKind {
    /// Its file; a store in memory has none.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Memory => None,
        }
    }
}

/// What everybody may ask about the store at any time.
#[derive(Debug)]
pub(crate) struct StoreStatus {
    pub(crate) open: AtomicBool,
    pub(crate) events: AtomicI64,
    /// How often the store was opened.
    pub(crate) openings: AtomicU64,
    /// Where it stands; the epoch is empty before it was open.
    pub(crate) mark: RwLock<StoreMark>,
    /// Epoch of a store that this process made; empty when there is none.
    pub(crate) made: RwLock<String>,
    pub(crate) failure: RwLock<Option<&'static str>>,
    pub(crate) space: Space,
    /// Whether only what takes authority away is done, since the trail can't be exported and nothing may be dropped.
    pub(crate) refusing: AtomicBool,
}

impl StoreStatus {
    /// Of a store that isn't open.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            open: AtomicBool::default(),
            events: AtomicI64::default(),
            openings: AtomicU64::default(),
            mark: RwLock::default(),
            made: RwLock::default(),
            failure: RwLock::default(),
            space: Space::new(metrics.store_free_bytes.clone()),
            refusing: AtomicBool::default(),
        }
    }
}

/// What a comparison with a mark found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// Where the store stands now.
    pub mark: StoreMark,
    /// Whether it was found to be a restored one, and has begun anew.
    pub restored: bool,
}

/// Handle of the store; one thread, the committer, does the work.
pub struct Store {
    queue: mpsc::Sender<Message>,
    readers: Option<Readers>,
    shared: Arc<Shared>,
    persistent: bool,
    fallback: Option<&'static str>,
    /// Events that wait for their commit although nobody waits for it.
    unconfirmed: Arc<AtomicUsize>,
}

impl Store {
    /// Opens a store. One that can't open is retried each second when it is `required`, and stood in for by memory
    /// when it isn't.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process holds it; any error of a store in memory.
    pub(crate) async fn open(kind: StoreKind, required: bool, shared: Arc<Shared>) -> Result<Self> {
        match opened(&kind, &shared).await {
            Ok(opened) => Self::start(kind, Some(opened), shared, None),
            Err(error) if matches!(error, StoreError::Locked { .. }) || kind == StoreKind::Memory => Err(error),
            Err(error) => {
                shared.metrics.db_errors.with_label_values(&[error.operation()]).inc();
                tracing::error!(target: "STORE", component = "InitDB", error = %error, required, "store can't be opened");
                shared.status.failed(&error);
                if required {
                    return Self::start(kind, None, shared, None);
                }
                let memory = opened(&StoreKind::Memory, &shared).await?;
                note_memory_run(&shared);
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
        let file = kind.path().map(Path::to_owned);
        let readers = file.clone().map(Readers::new);
        let committer = Committer::new(kind, opened, waiting, Arc::clone(&shared));
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

    /// Runs a command in a transaction and answers after the commit.
    ///
    /// # Errors
    /// When it could not be committed; nothing changed then. Also when it issues something while the clock is wrong.
    pub async fn commit<C: Command>(&self, command: C) -> Result<C::Outcome> {
        if C::ISSUES && is_wrong(self.shared.judging.times(), self.shared.view.min_iat()) {
            return Err(StoreError::Clock);
        }
        if !C::TAKES_AUTHORITY && !C::MAKES_ROOM && self.refuses() {
            return Err(StoreError::AuditFull);
        }
        self.run(command).await
    }

    async fn run<C: Command>(&self, command: C) -> Result<C::Outcome> {
        let (reply, answer) = oneshot::channel();
        let again = command.again();
        let slot = Slot {
            command: Some(command),
            again,
            outcome: None,
            reply: Some(reply),
        };
        self.submit(Box::new(slot))?;
        answer.await.map_err(|_| StoreError::NotOpen)?
    }

    /// Sets whether only what takes authority away is done.
    pub(crate) fn refuse(&self, refuses: bool) {
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

    /// Whether the disk is down to its reserve.
    pub(crate) fn scarce(&self) -> bool {
        self.shared.status.space.scarce()
    }

    /// Waits until a segment of the trail is sealed.
    pub(crate) async fn sealed(&self) {
        self.shared.sealed.notified().await;
    }

    /// The space that the store looks at, for tests that fill the disk.
    #[cfg(test)]
    pub(crate) fn space(&self) -> &Space {
        &self.shared.status.space
    }

    /// Runs a command that only reads, on a connection of its own, so that it doesn't hold up the committer.
    ///
    /// # Errors
    /// When the store is not open, or the command writes.
    pub async fn read<C: Command>(&self, command: C) -> Result<C::Outcome> {
        let Some(readers) = &self.readers else {
            return self.run(command).await;
        };
        if !self.connected() {
            return Err(StoreError::NotOpen);
        }
        let shared = Arc::clone(&self.shared);
        let opening = self.shared.status.openings.load(Ordering::SeqCst);
        readers
            .run(opening, move |connection| {
                let mut tx = SqliteTx::new(connection, &shared);
                ready(command.run(&mut tx))
            })
            .await
    }

    /// Appends an event without waiting for its commit: for denials that come before a verified credential.
    /// False when half of the queue is taken, or the disk is nearly full: the rest is for commands, which strangers
    /// can't crowd out.
    pub fn append(&self, draft: EventDraft) -> bool {
        if self.queue.capacity() < QUEUE_LENGTH / 2 || self.shared.status.space.scarce() || self.refuses() {
            return false;
        }
        let unconfirmed = Unconfirmed::new(&self.unconfirmed);
        let slot = Slot {
            command: Some(Append(draft, unconfirmed)),
            again: None,
            outcome: None,
            reply: None,
        };
        self.submit(Box::new(slot)).is_ok()
    }

    fn submit(&self, job: Box<dyn Pending>) -> Result<()> {
        // At once, for the committer may be busy with opening the store anew.
        if self.readers.is_some() && !self.connected() {
            return Err(StoreError::NotOpen);
        }
        if self.shared.status.space.full() && !job.uses_reserves() {
            return Err(StoreError::DiskFull);
        }
        if !job.uses_reserves() && self.queue.capacity() <= AUTHORITY_RESERVE {
            return Err(StoreError::QueueFull);
        }
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
        // Whoever waits for an answer has seen a commit; only events that nobody waits for may still be queued.
        // In memory too: a batch is sealed after its last command, so that a read doesn't see the events of its own.
        if self.unconfirmed.load(Ordering::SeqCst) > 0 {
            match self.run(Flush).await {
                // What was queued is refused as well.
                Ok(()) | Err(StoreError::DiskFull) => {}
                Err(error) => return Err(error),
            }
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
        let status = &self.shared.status;
        let failure = *status.failure.read().unwrap_or_else(PoisonError::into_inner);
        self.fallback.or(failure)
    }

    /// Whether only what takes authority away is done, since the trail can't be exported.
    pub(crate) fn refuses(&self) -> bool {
        self.shared.status.refusing.load(Ordering::SeqCst)
    }

    /// What is known of the disk; nothing for a store in memory.
    pub(crate) fn room(&self) -> Option<Room> {
        self.shared.status.space.room()
    }

    /// Events in the trail.
    pub fn event_count(&self) -> i64 {
        self.shared.status.events.load(Ordering::SeqCst)
    }

    /// The store's epoch: new at creation and at every restore; empty before the store was open.
    pub fn epoch(&self) -> String {
        let mark = self.shared.status.mark.read().unwrap_or_else(PoisonError::into_inner);
        mark.epoch.clone()
    }

    /// Compares the store with the text of a mark that somebody keeps outside it. A store that was put back from a
    /// copy begins a new epoch and refuses all tokens of before.
    ///
    /// # Errors
    /// When the store is not open or fails.
    pub async fn compare(&self, mark: Option<&str>) -> Result<Compared> {
        let remembered = mark.map_or(Remembered::Nothing, Remembered::from_text);
        let (reply, answer) = oneshot::channel();
        let sent = self.queue.try_send(Message::Compare(remembered, reply));
        sent.map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => StoreError::NotOpen,
        })?;
        answer.await.map_err(|_| StoreError::NotOpen)?
    }

    /// Commits what waits, closes the store, and answers when that is done; once.
    ///
    /// # Errors
    /// When it fails, or takes more than 10 s: a disk that hangs must not hold up the end of the process.
    pub async fn close(&self) -> Result<()> {
        let closed = tokio::time::timeout(CLOSE, self.closed()).await;
        closed.unwrap_or_else(|_| Err(self.not_closed()))
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

/// Tells what a stand-in means, and leaves a note for the next start with the store.
fn note_memory_run(shared: &Shared) {
    match shared.memory_run.note(shared.clock.now()) {
        Ok(()) => {
            tracing::warn!(target: "STORE", component = "InitDB",
                "running on memory, which ends with this process: the next start with the store refuses all tokens of before");
        }
        Err(error) => {
            tracing::error!(target: "STORE", component = "InitDB", error = %error,
                "running on memory, and that can't be noted: the next start with the store knows nothing of what is revoked now");
        }
    }
}

/// Opens a store on a thread that may block.
async fn opened(kind: &StoreKind, shared: &Arc<Shared>) -> Result<Opened> {
    let (kind, shared) = (kind.clone(), Arc::clone(shared));
    tokio::task::spawn_blocking(move || open(&kind, &shared))
        .await
        .map_err(|_| StoreError::NotOpen)?
}

/// Reminds the committer of a store that isn't open, looks at the disk and brings the mark up to date, until there is
/// no committer.
async fn remind(queue: mpsc::WeakSender<Message>, shared: Arc<Shared>, file: Option<PathBuf>) {
    let mut timer = tokio::time::interval(REOPEN_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        let Some(queue) = queue.upgrade().filter(|queue| !queue.is_closed()) else {
            return;
        };
        if !shared.status.open.load(Ordering::SeqCst) && queue.try_send(Message::Reopen).is_err() {
            tracing::trace!(target: "STORE", component = "InitDB", "the queue is full; the next second will do");
        }
        drop(queue);
        if let Some(file) = file.clone() {
            let shared = Arc::clone(&shared);
            // A disk that hangs holds up nothing but this.
            let look = move || {
                shared.status.space.look(&file);
                if shared.status.open.load(Ordering::SeqCst) {
                    shared.mark.keep(|| shared.status.mark());
                }
            };
            if let Err(error) = tokio::task::spawn_blocking(look).await {
                tracing::debug!(target: "STORE", component = "Space", error = %error, "free space is not known");
            }
        }
    }
}

/// What a command answers that waits for nothing but the transaction.
fn ready<T>(running: impl Future<Output = Result<T>>) -> Result<T> {
    running.now_or_never().unwrap_or(Err(StoreError::Waited))
}

/// A command on its way through the committer.
struct Slot<C: Command> {
    command: Option<C>,
    /// For another try.
    again: Option<C>,
    outcome: Option<C::Outcome>,
    reply: Option<oneshot::Sender<Result<C::Outcome>>>,
}

impl<C: Command> Pending for Slot<C> {
    fn takes_authority(&self) -> bool {
        C::TAKES_AUTHORITY
    }

    fn uses_reserves(&self) -> bool {
        C::TAKES_AUTHORITY || C::MAKES_ROOM
    }

    fn can_rewind(&self) -> bool {
        self.again.is_some()
    }

    fn rewind(&mut self) -> bool {
        self.command = self.again.as_ref().and_then(C::again);
        self.outcome = None;
        self.command.is_some()
    }

    fn run(&mut self, tx: &mut dyn Tx) -> Result<()> {
        if let Some(command) = self.command.take() {
            self.outcome = Some(ready(command.run(tx))?);
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

/// Counts itself among the events that nobody waits for, until it is dropped.
struct Unconfirmed(Arc<AtomicUsize>);

impl Unconfirmed {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Unconfirmed {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Append(EventDraft, Unconfirmed);

#[async_trait]
impl Command for Append {
    type Outcome = Unconfirmed;

    async fn run(self, tx: &mut dyn Tx) -> Result<Unconfirmed> {
        let Self(draft, unconfirmed) = self;
        tx.audit(draft);
        // Part of the outcome, so that it is dropped after the commit.
        Ok(unconfirmed)
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// A disk that hangs.
    struct Stuck {
        begun: Option<oneshot::Sender<()>>,
        until: Receiver<()>,
    }

    #[async_trait]
    impl Command for Stuck {
        type Outcome = ();

        async fn run(mut self, _tx: &mut dyn Tx) -> Result<()> {
            self.begun.take().unwrap().send(()).unwrap();
            self.until.recv().ok();
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_page_holds_what_was_queued_before_it_also_in_memory() {
        let broker = crate::testing::broker().await;
        let (begun, begins) = oneshot::channel();
        let (release, until) = channel();
        let stuck = Stuck {
            begun: Some(begun),
            until,
        };
        let read = async {
            begins.await.unwrap();
            // The two wait together, and get into one batch.
            let draft = EventDraft::success(agentwrit_protocol::audit::EventType::AdminAuth, "queued");
            assert!(broker.store.append(draft));
            let filter = EventFilter {
                limit: 10,
                ..EventFilter::default()
            };
            tokio::join!(broker.store.events(filter), async { release.send(()).unwrap() }).0
        };
        let (stuck, page) = tokio::join!(broker.store.commit(stuck), read);
        assert!(stuck.is_ok());
        assert_eq!(page.unwrap().total, 1);
    }

    /// Ends somebody's authority.
    struct End;

    #[async_trait]
    impl Command for End {
        type Outcome = ();
        const TAKES_AUTHORITY: bool = true;

        fn again(&self) -> Option<Self> {
            Some(Self)
        }

        async fn run(self, _tx: &mut dyn Tx) -> Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_full_queue_still_takes_what_ends_authority() {
        let broker = crate::testing::broker().await;
        let (begun, begins) = oneshot::channel();
        let (release, until) = channel();
        let begun = Some(begun);
        let flooding = async {
            begins.await.unwrap();
            let mut waiting = Vec::new();
            for _ in 0..QUEUE_LENGTH {
                let mut commit = Box::pin(broker.store.commit(Flush));
                // It is in the queue, or refused, once it was polled.
                match futures_util::poll!(commit.as_mut()) {
                    std::task::Poll::Pending => waiting.push(commit),
                    std::task::Poll::Ready(answer) => assert!(matches!(answer, Err(StoreError::QueueFull))),
                }
            }
            assert_eq!(waiting.len(), QUEUE_LENGTH - AUTHORITY_RESERVE);
            let mut end = Box::pin(broker.store.commit(End));
            assert!(futures_util::poll!(end.as_mut()).is_pending(), "it is in the queue");
            release.send(()).unwrap();
            assert!(end.await.is_ok());
        };
        let (stuck, ()) = tokio::join!(broker.store.commit(Stuck { begun, until }), flooding);
        assert!(stuck.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_is_given_up_after_ten_seconds() {
        let broker = crate::testing::broker().await;
        let (begun, begins) = oneshot::channel();
        let (release, until) = channel();
        let begun = Some(begun);
        let work = async || {
            let stuck = broker.store.commit(Stuck { begun, until });
            let late = async {
                begins.await.unwrap();
                tokio::join!(broker.store.commit(Flush), async {
                    let error = broker.store.close().await.unwrap_err();
                    assert!(matches!(error, StoreError::NotClosed { waiting: 2 }), "{error}");
                    // Whoever waits for the file itself goes on when it does.
                    release.send(()).unwrap();
                })
            };
            tokio::join!(stuck, late)
        };
        let (stuck, (late, ())) = work().await;
        assert!(stuck.is_ok() && late.is_ok());
        let again = broker.store.close().await.unwrap_err();
        assert!(matches!(again, StoreError::NotClosed { waiting: 0 }), "{again}");
    }

    #[tokio::test]
    async fn what_waits_is_committed_before_the_close() {
        let broker = crate::testing::broker().await;
        let (waiting, closed) = tokio::join!(broker.store.commit(Flush), broker.store.close());
        assert!(waiting.is_ok() && closed.is_ok());
    }
}
