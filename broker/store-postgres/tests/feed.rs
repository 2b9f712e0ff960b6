//! What one replica revokes is refused by the others: the feed, and what is done while it is cut.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::clock::ManualClock;
use agentwrit_protocol::{Clock, UnixSeconds};
use agentwrit_store::testing::{gathered, surroundings};
use agentwrit_store::{
    Command, EndReason, EventDraft, Result, Revocation, RevocationLevel, RevocationListener, RevocationLoad, Store,
    Surroundings, SweepTask, Tx, ViewChange,
};
use agentwrit_store_postgres::PostgresStore;
use agentwrit_store_postgres::testing::proxy::Proxy;
use agentwrit_store_postgres::testing::{Database, server};
use async_trait::async_trait;
use tokio::sync::{Mutex, mpsc};

/// What a listener was told.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Loaded(i64, Vec<ViewChange>),
    Changed(Vec<ViewChange>),
}

struct Ears(mpsc::UnboundedSender<Heard>);

impl RevocationListener for Ears {
    fn load(&self, min_iat: UnixSeconds) -> Box<dyn RevocationLoad + '_> {
        gathered(move |changes| {
            let _ = self.0.send(Heard::Loaded(min_iat.get(), changes));
        })
    }

    fn changed(&self, changes: Vec<ViewChange>) {
        let _ = self.0.send(Heard::Changed(changes));
    }
}

/// A store, and what its listener hears.
struct Replica {
    store: Store,
    clock: Arc<ManualClock>,
    heard: Mutex<mpsc::UnboundedReceiver<Heard>>,
}

impl Replica {
    async fn open(database: &Database, proxy: Option<&Proxy>) -> Self {
        let (around, clock, _) = surroundings();
        let (tell, heard) = mpsc::unbounded_channel();
        let around = Surroundings {
            revocations: Arc::new(Ears(tell)),
            ..around
        };
        let mut options = database.options();
        if let Some(proxy) = proxy {
            options.settings = proxy.settings(&database.name);
        }
        let store = Store::new(PostgresStore::open(options, around).await.unwrap());
        assert!(store.connected(), "{:?}", store.failure());
        let replica = Self {
            store,
            clock,
            heard: Mutex::new(heard),
        };
        assert!(matches!(replica.next().await, Heard::Loaded(..)));
        replica
    }

    /// The next thing that it hears, whenever that is.
    async fn next(&self) -> Heard {
        self.heard.lock().await.recv().await.unwrap()
    }

    /// What it has heard and nobody has asked for.
    async fn rest(&self) -> Vec<Heard> {
        let mut heard = self.heard.lock().await;
        std::iter::from_fn(|| heard.try_recv().ok()).collect()
    }

    async fn revoke(&self, target: &str) -> ViewChange {
        self.store.commit(Revoke(target.to_owned())).await.unwrap();
        revoked(target)
    }
}

/// Two replicas, of which the second is behind a proxy by which it hears of no change until it asks.
async fn one_hears_nothing(database: &Database) -> (Replica, Replica, Proxy) {
    let proxy = Proxy::start(server());
    proxy.deafen(true);
    let one = Replica::open(database, None).await;
    let deaf = Replica::open(database, Some(&proxy)).await;
    (one, deaf, proxy)
}

fn revocation(target: &str) -> Revocation {
    Revocation {
        level: RevocationLevel::Task,
        target: target.to_owned(),
        until: None,
    }
}

fn revoked(target: &str) -> ViewChange {
    ViewChange::Revoked(revocation(target))
}

struct Revoke(String);

#[async_trait]
impl Command for Revoke {
    type Outcome = ();

    async fn run(self, tx: &mut dyn Tx) -> Result<()> {
        tx.add_revocation(&revocation(&self.0)).await
    }
}

struct Lift(&'static str);

#[async_trait]
impl Command for Lift {
    type Outcome = bool;

    async fn run(self, tx: &mut dyn Tx) -> Result<bool> {
        tx.lift_revocation(RevocationLevel::Task, self.0).await
    }
}

/// Opens a session, renews it, and ends it with an overlap.
struct Life;

#[async_trait]
impl Command for Life {
    type Outcome = ();
    const OPENS: bool = true;

    async fn run(self, tx: &mut dyn Tx) -> Result<()> {
        let mut session = agentwrit_store::testing::suite::rows::session("1111111111111111aa", "1111111111111111bb");
        tx.insert_session(&mut session).await?;
        let previous = agentwrit_store::Renewal {
            jti: session.jti.clone(),
            until: tx.now_millis() + Duration::from_secs(10),
            exp: session.exp,
            key: None,
        };
        let jti = "1111111111111111cc".into();
        tx.renew_session(&session, &jti, session.iat, session.exp, &previous)
            .await?;
        let session = tx.session(&session.sid).await?.unwrap();
        let overlap = tx.now_millis() + Duration::from_secs(5);
        tx.end_session(&session, EndReason::Superseded, overlap).await?;
        Ok(())
    }
}

#[tokio::test]
async fn each_kind_of_change_reaches_the_others_as_it_was() {
    let database = Database::new();
    let (one, two) = (
        Replica::open(&database, None).await,
        Replica::open(&database, None).await,
    );
    one.revoke("task").await;
    assert!(one.store.commit(Lift("task")).await.unwrap());
    one.store.commit(Life).await.unwrap();
    let mut told = Vec::new();
    let mut heard = Vec::new();
    for (replica, changes) in [(&one, &mut told), (&two, &mut heard)] {
        while changes.len() < 4 {
            match replica.next().await {
                Heard::Changed(more) => changes.extend(more),
                Heard::Loaded(..) => panic!("all was loaded, for nothing"),
            }
        }
    }
    assert_eq!(told, heard);
    assert!(matches!(
        told.as_slice(),
        [
            ViewChange::Revoked(_),
            ViewChange::Lifted { .. },
            ViewChange::Renewed {
                overlap_until: Some(_),
                ..
            },
            ViewChange::SessionEnded {
                overlap_until: Some(_),
                ..
            }
        ]
    ));
}

#[tokio::test]
async fn all_replicas_hear_all_changes_in_one_order() {
    let database = Database::new();
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Replica::open(&database, None).await);
    }
    let all = |who: usize| {
        let replica = &replicas[who];
        async move {
            for number in 0..30 {
                replica.revoke(&format!("{who}-{number}")).await;
            }
        }
    };
    tokio::join!(all(0), all(1), all(2));
    let mut orders = Vec::new();
    for replica in &replicas {
        let mut order = Vec::new();
        while order.len() < 90 {
            match replica.next().await {
                Heard::Changed(more) => order.extend(more),
                Heard::Loaded(..) => panic!("all was loaded, for nothing"),
            }
        }
        orders.push(order);
    }
    assert!(orders.iter().all(|order| *order == orders[0]), "{orders:?}");
}

#[tokio::test]
async fn a_view_that_has_not_heard_for_a_second_asks_the_store() {
    let database = Database::new();
    let (one, deaf, proxy) = one_hears_nothing(&database).await;
    let change = one.revoke("task").await;
    deaf.clock.advance_millis(1000);
    assert_eq!(deaf.store.view_age(), None);
    deaf.store.current_view().await.unwrap();
    assert_eq!(deaf.rest().await, [], "a second is not too old");
    deaf.clock.advance_millis(1);
    assert_eq!(deaf.store.view_age(), Some(Duration::from_millis(1001)));
    deaf.store.current_view().await.unwrap();
    assert_eq!(deaf.rest().await, [Heard::Changed(vec![change])]);
    assert_eq!(deaf.store.view_age(), None);

    // Each time anew, for all that ask at once.
    let change = one.revoke("another").await;
    deaf.clock.advance_millis(1001);
    let ask = || deaf.store.current_view();
    let (a, b, c) = tokio::join!(ask(), ask(), ask());
    a.and(b).and(c).unwrap();
    assert_eq!(deaf.rest().await, [Heard::Changed(vec![change])]);

    // And when it hears again.
    proxy.deafen(false);
    let change = one.revoke("third").await;
    assert_eq!(deaf.next().await, Heard::Changed(vec![change]));
}

#[tokio::test]
async fn a_view_that_can_neither_hear_nor_ask_answers_nothing() {
    let database = Database::new();
    let proxy = Proxy::start(server());
    proxy.deafen(true);
    let replica = Replica::open(&database, Some(&proxy)).await;
    replica.store.current_view().await.unwrap();
    drop(proxy);
    replica.clock.advance(2);
    let error = replica.store.current_view().await.unwrap_err();
    assert_eq!(error.kind(), "connection", "{error}");
}

#[tokio::test]
async fn a_commit_first_learns_what_its_replica_has_not_heard() {
    let database = Database::new();
    let (one, deaf, _proxy) = one_hears_nothing(&database).await;
    let theirs = one.revoke("theirs").await;
    let own = deaf.revoke("own").await;
    assert_eq!(
        deaf.rest().await,
        [Heard::Changed(vec![theirs]), Heard::Changed(vec![own])]
    );
}

#[tokio::test]
async fn what_is_no_longer_told_is_loaded_as_a_whole() {
    let database = Database::new();
    let (one, deaf, _proxy) = one_hears_nothing(&database).await;
    let first = one.revoke("first").await;
    let second = one.revoke("second").await;
    database
        .sql("DELETE FROM agentwrit.view_changes WHERE seq = 1")
        .unwrap();
    deaf.clock.advance(2);
    deaf.store.current_view().await.unwrap();
    let Some(Heard::Loaded(_, mut changes)) = deaf.rest().await.pop() else {
        panic!("not loaded");
    };
    changes.sort_by_key(|change| format!("{change:?}"));
    assert_eq!(changes, [first, second]);
}

#[tokio::test]
async fn a_new_epoch_reaches_the_others() {
    let database = Database::new();
    let (one, two) = (
        Replica::open(&database, None).await,
        Replica::open(&database, None).await,
    );
    one.clock.advance(100);
    two.clock.advance(100);
    let event = EventDraft::success(EventType::StoreRestored, "on purpose");
    let mark = one.store.begin_epoch(event).await.unwrap();
    let Heard::Loaded(min_iat, _) = two.next().await else {
        panic!("not loaded");
    };
    assert!(min_iat > one.clock.unix_seconds().get() - 2, "{min_iat}");
    assert_eq!(two.store.epoch(), mark.epoch);
}

#[tokio::test]
async fn old_changes_are_removed_and_newer_ones_stay() {
    let database = Database::new();
    let one = Replica::open(&database, None).await;
    for number in 0..3 {
        one.revoke(&number.to_string()).await;
    }
    one.clock.advance(200);
    one.revoke("newer").await;
    one.clock.advance(101);
    let pruned = one.store.commit(Prune).await.unwrap();
    assert_eq!(pruned, 3);
    let left = database
        .sql("SELECT string_agg(target, ' ') FROM agentwrit.view_changes")
        .unwrap();
    assert_eq!(left, "newer");
}

struct Prune;

#[async_trait]
impl Command for Prune {
    type Outcome = u64;

    async fn run(self, tx: &mut dyn Tx) -> Result<u64> {
        tx.sweep(SweepTask::ViewChanges).await
    }
}

/// As a standby that takes over and lacks the last commits.
#[tokio::test]
async fn a_store_that_lost_its_end_begins_an_epoch_by_itself() {
    let database = Database::new();
    let one = Replica::open(&database, None).await;
    let audit = || one.store.record(EventDraft::success(EventType::AdminAuth, "kept"));
    audit().await.unwrap();
    let head = "SELECT format('sequence = %s, hash = %L', sequence, hash) FROM agentwrit.chain_head";
    let kept = database.sql(head).unwrap();
    audit().await.unwrap();
    let epoch = one.store.epoch();
    // Only the process itself knows how far the store was.
    std::fs::remove_file(database.folder.path().join("mark")).unwrap();
    let lose = format!(
        "SET session_replication_role = replica; DELETE FROM agentwrit.audit_events WHERE seq = 2; \
         UPDATE agentwrit.chain_head SET {kept}; \
         SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() \
         AND pid <> pg_backend_pid()"
    );
    database.sql(&lose).unwrap();
    loop {
        if let Heard::Loaded(min_iat, _) = one.next().await
            && one.store.epoch() != epoch
        {
            assert_eq!(
                min_iat,
                agentwrit_store::testing::START,
                "all tokens of before are refused"
            );
            break;
        }
    }
}

#[tokio::test]
async fn the_newest_view_is_asked_for_also_while_it_is_new_enough() {
    let database = Database::new();
    let (one, deaf, _proxy) = one_hears_nothing(&database).await;
    let change = one.revoke("task").await;
    assert_eq!(deaf.store.view_age(), None);
    assert!(deaf.store.newest_view().await.unwrap());
    assert_eq!(deaf.rest().await, [Heard::Changed(vec![change])]);
}
