//! One replica: an open store, and what its process would know.

use std::pin::pin;
use std::sync::Arc;

use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::clock::ManualClock;
use agentwrit_protocol::session::{RevocationView, TokenState};
use agentwrit_protocol::status_list::Bounds;
use agentwrit_protocol::{JudgingClock, UnixSeconds};
use agentwrit_store::testing::suite::Opener;
use agentwrit_store::testing::{Recorder, gathered, surroundings};
use agentwrit_store::{Command, Result, RevocationListener, RevocationLoad, Store, ViewChange};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// So few places that one which is given back too early is soon drawn again, and enough for all nodes.
const FEW: Bounds = Bounds {
    entries: 8,
    at_least_free: 1,
    lists: 2,
};

/// A thread that tasks run on. When it is dropped they have ended, wherever they were.
pub(crate) fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

/// The view as the broker keeps it.
#[derive(Default)]
struct Eyes(Mutex<RevocationView>);

impl RevocationListener for Eyes {
    fn load(&self, min_iat: UnixSeconds) -> Box<dyn RevocationLoad + '_> {
        gathered(move |changes| *self.0.lock() = RevocationView::loaded(min_iat, changes))
    }

    fn changed(&self, changes: Vec<ViewChange>) {
        let mut view = self.0.lock();
        for change in changes {
            view.apply(change);
        }
    }
}

/// A replica that runs. Its tasks are first to go when it is dropped, as when a process dies.
pub(crate) struct Replica {
    runtime: Runtime,
    store: Store,
    pub(crate) judging: Arc<JudgingClock>,
    recorder: Arc<Recorder>,
    eyes: Arc<Eyes>,
}

impl Replica {
    pub(crate) fn start(opener: &dyn Opener, clock: &Arc<ManualClock>) -> Self {
        let (mut around, _, recorder) = surroundings();
        let eyes = Arc::<Eyes>::default();
        around.clock = Arc::<ManualClock>::clone(clock);
        around.judging = Arc::new(JudgingClock::new(Arc::clone(&around.clock)));
        around.status_lists = FEW;
        around.revocations = Arc::<Eyes>::clone(&eyes);
        let judging = Arc::clone(&around.judging);
        let runtime = runtime();
        let store = runtime.block_on(opener.open(around));
        assert!(store.connected(), "{:?}", store.failure());
        Self {
            runtime,
            store,
            judging,
            recorder,
            eyes,
        }
    }

    /// Whether what it has committed is there after it.
    pub(crate) fn lasts(&self) -> bool {
        self.store.persistent()
    }

    /// Asks the store, on the threads of this replica.
    pub(crate) fn ask<'a, F: Future>(&'a self, question: impl FnOnce(&'a Store) -> F) -> F::Output {
        self.runtime.block_on(question(&self.store))
    }

    /// Commits a command meanwhile.
    pub(crate) fn commit<C: Command>(&self, command: C) -> JoinHandle<Result<C::Outcome>>
    where
        C::Outcome: 'static,
    {
        let store = self.store.clone();
        self.runtime.spawn(async move { store.commit(command).await })
    }

    /// Hands a command in whose caller is gone before the answer.
    pub(crate) fn submit<C: Command>(&self, command: C) {
        self.runtime.block_on(async {
            let asking = pin!(self.store.commit(command));
            tokio::select! {
                biased;
                _ = asking => {}
                () = std::future::ready(()) => {}
            }
        });
    }

    /// The types of the events that it has committed since the last call.
    pub(crate) fn audited(&self) -> Vec<String> {
        let mut audited = self.recorder.take_audited();
        audited.retain(|event| event != "audit_checkpoint");
        audited
    }

    /// Whether a token stands as far as it knows.
    pub(crate) fn stands(&self, claims: &Claims) -> bool {
        self.eyes.0.lock().state(claims, self.judging.times()) == TokenState::Active
    }

    /// Ends it as a broker ends.
    pub(crate) fn close(self) {
        self.ask(Store::close).unwrap();
    }
}
