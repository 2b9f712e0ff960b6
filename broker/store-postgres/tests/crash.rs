//! A server that is killed: what was acknowledged is there once, and the store goes on without a restart of its own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agentwrit_protocol::audit::{AuditEvent, ChainWalker, EventType};
use agentwrit_protocol::{Ttl, UnixSeconds};
use agentwrit_store::testing::{HashSigner, gathered, surroundings};
use agentwrit_store::{
    Command, Declared, EventDraft, EventFilter, Result, Retention, RevocationListener, RevocationLoad, Store,
    Surroundings, Tx, ViewChange,
};
use agentwrit_store_postgres::testing::{Durability, Server};
use agentwrit_store_postgres::{OpenOptions, PostgresStore};
use async_trait::async_trait;
use tokio::sync::Notify;

/// Tells when the store was opened.
struct Loads(Notify);

impl RevocationListener for Loads {
    fn load(&self, _: UnixSeconds) -> Box<dyn RevocationLoad + '_> {
        gathered(|_| self.0.notify_one())
    }

    fn changed(&self, _: Vec<ViewChange>) {}
}

struct Tell(String);

#[async_trait]
impl Command for Tell {
    type Outcome = ();

    async fn run(self, tx: &mut dyn Tx) -> Result<()> {
        tx.audit(EventDraft::success(EventType::AdminAuth, self.0));
        Ok(())
    }
}

/// Commits until it is told to stop; what was acknowledged.
async fn work(store: Store, stop: Arc<AtomicBool>, worker: String) -> Vec<String> {
    let mut done = Vec::new();
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        number += 1;
        let name = format!("{worker}-{number}");
        match store.commit(Tell(name.clone())).await {
            Ok(()) => done.push(name),
            // At once, while the store isn't open.
            Err(_) => tokio::task::yield_now().await,
        }
    }
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_killed_server() {
    let mut server = Server::start(Durability::Kept);
    let database = server.database();
    let folder = tempfile::tempdir().unwrap();
    let loads = Arc::new(Loads(Notify::new()));
    let around = Surroundings {
        revocations: Arc::<Loads>::clone(&loads),
        ..surroundings().0
    };
    let options = OpenOptions {
        settings: server.settings(&database),
        mark: folder.path().join("mark"),
        key_is_new: true,
        max_ttl: Ttl::ZERO,
        retention: Retention::default(),
        installation: agentwrit_store::Installation::default(),
        declared: Declared::default(),
    };
    let store = Store::new(PostgresStore::open(options, around).await.unwrap());
    loads.0.notified().await;
    let mut acknowledged = Vec::new();
    for round in 0..2 {
        let stop = Arc::new(AtomicBool::new(false));
        let workers: Vec<_> = (0..8)
            .map(|worker| tokio::spawn(work(store.clone(), Arc::clone(&stop), format!("{round}-{worker}"))))
            .collect();
        for number in 0..10 {
            let name = format!("{round}-first-{number}");
            store.commit(Tell(name.clone())).await.unwrap();
            acknowledged.push(name);
        }
        server.kill();
        tokio::task::block_in_place(|| server.restart());
        loads.0.notified().await;
        stop.store(true, Ordering::SeqCst);
        for worker in workers {
            acknowledged.extend(worker.await.unwrap());
        }
    }
    store.commit(Tell("last".to_owned())).await.unwrap();
    let filter = EventFilter {
        limit: 1_000_000,
        ..EventFilter::default()
    };
    let page = store.events(filter).await.unwrap();
    let events: Vec<AuditEvent> = serde_json::from_str(&page.events).unwrap();
    let mut walker = ChainWalker::from_start();
    for event in &events {
        walker.feed(event, &HashSigner("test")).unwrap();
    }
    let mut found: Vec<_> = events
        .iter()
        .filter(|event| event.event_type == EventType::AdminAuth.as_str())
        .map(|event| event.detail.clone())
        .collect();
    found.sort();
    let all = found.len();
    found.dedup();
    assert_eq!(found.len(), all, "nothing is there twice");
    for name in acknowledged {
        assert!(found.binary_search(&name).is_ok(), "{name} was acknowledged");
    }
}
