//! Queue, reads and close of a store in memory.

use std::sync::mpsc::{Receiver, channel};

use agentwrit_store::queue::{AUTHORITY_RESERVE, LENGTH};
use agentwrit_store::testing::surroundings;
use agentwrit_store::{Command, EventFilter, Store, TakesAuthority, Tx};

use tokio::sync::oneshot;

use super::*;
use crate::moving::Departing;

async fn in_memory() -> Store {
    Store::new(
        SqliteStore::open(OpenOptions::in_memory(), surroundings().0)
            .await
            .unwrap(),
    )
}

/// Does nothing.
struct Nothing;

#[async_trait]
impl Command for Nothing {
    type Outcome = ();

    async fn run(self, _tx: &mut dyn Tx) -> Result<()> {
        Ok(())
    }
}

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
    let store = in_memory().await;
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
        assert!(store.append(draft));
        let filter = EventFilter {
            limit: 10,
            ..EventFilter::default()
        };
        tokio::join!(store.events(filter), async { release.send(()).unwrap() }).0
    };
    let (stuck, page) = tokio::join!(store.commit(stuck), read);
    assert!(stuck.is_ok());
    assert_eq!(page.unwrap().total, 1);
}

/// Ends somebody's authority.
struct End;

#[async_trait]
impl Command for End {
    type Outcome = ();
    const TAKES_AUTHORITY: TakesAuthority<Self> = TakesAuthority::Again(|_| Self);

    async fn run(self, _tx: &mut dyn Tx) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_full_queue_still_takes_what_ends_authority() {
    let store = in_memory().await;
    let (begun, begins) = oneshot::channel();
    let (release, until) = channel();
    let begun = Some(begun);
    let flooding = async {
        begins.await.unwrap();
        let mut waiting = Vec::new();
        for _ in 0..LENGTH {
            let mut commit = Box::pin(store.commit(Nothing));
            // It is in the queue, or refused, once it was polled.
            match futures_util::poll!(commit.as_mut()) {
                std::task::Poll::Pending => waiting.push(commit),
                std::task::Poll::Ready(answer) => assert!(matches!(answer, Err(StoreError::QueueFull))),
            }
        }
        assert_eq!(waiting.len(), LENGTH - AUTHORITY_RESERVE);
        let mut end = Box::pin(store.commit(End));
        assert!(futures_util::poll!(end.as_mut()).is_pending(), "it is in the queue");
        release.send(()).unwrap();
        assert!(end.await.is_ok());
    };
    let (stuck, ()) = tokio::join!(store.commit(Stuck { begun, until }), flooding);
    assert!(stuck.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_given_up_after_ten_seconds() {
    let store = in_memory().await;
    let (begun, begins) = oneshot::channel();
    let (release, until) = channel();
    let begun = Some(begun);
    let work = async || {
        let stuck = store.commit(Stuck { begun, until });
        let late = async {
            begins.await.unwrap();
            tokio::join!(store.commit(Nothing), async {
                let error = store.close().await.unwrap_err();
                assert!(matches!(error, StoreError::NotClosed { waiting: 2 }), "{error}");
                // Whoever waits for the file itself goes on when it does.
                release.send(()).unwrap();
            })
        };
        tokio::join!(stuck, late)
    };
    let (stuck, (late, ())) = work().await;
    assert!(stuck.is_ok() && late.is_ok());
    let again = store.close().await.unwrap_err();
    assert!(matches!(again, StoreError::NotClosed { waiting: 0 }), "{again}");
}

#[tokio::test]
async fn a_store_that_cant_be_opened_keeps_its_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.db");
    std::fs::write(&path, "no store at all".repeat(100)).unwrap();
    let options = OpenOptions {
        location: StoreLocation::File(path.clone()),
        required: true,
        mark: folder.path().join("mark"),
        ..OpenOptions::in_memory()
    };
    let store = Store::new(SqliteStore::open(options, surroundings().0).await.unwrap());
    let is_held = || {
        // As `migrate` does, which must not move what a broker may write to the next second.
        let moved = Departing::open(&path, &folder.path().join("signing.key"));
        moved
            .err()
            .is_some_and(|error| error.to_string().contains("is held by a broker"))
    };
    assert!(!store.connected() && is_held());
    std::fs::remove_file(&path).unwrap();
    while !store.connected() {
        tokio::task::yield_now().await;
    }
    assert!(is_held());
    store.close().await.unwrap();
    assert!(!is_held());
}
