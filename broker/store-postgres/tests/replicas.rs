//! Several stores on one database, and what becomes of a commit whose answer is lost.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use agentwrit_protocol::audit::{AuditEvent, ChainWalker, EventType};
use agentwrit_protocol::clock::ManualClock;
use agentwrit_protocol::{Clock, JudgingClock, SteeredClock, UnixSeconds};
use agentwrit_store::testing::suite::{Bench, Opener};
use agentwrit_store::testing::{HashSigner, START, gathered, surroundings};
use agentwrit_store::{
    Declared, EventDraft, EventFilter, Installation, MetaKey, PutBack, Result, RevocationListener, RevocationLoad,
    Store, StoreError, Surroundings, ViewChange,
};
use agentwrit_store_postgres::PostgresStore;
use agentwrit_store_postgres::testing::proxy::{Lost, Proxy};
use agentwrit_store_postgres::testing::{Database, server};
use tokio::sync::Notify;

async fn audit(store: &Bench, detail: &'static str) -> Result<()> {
    store
        .commit(move |tx| {
            Box::pin(async move {
                tx.audit(EventDraft::success(EventType::AdminAuth, detail));
                Ok(())
            })
        })
        .await
}

async fn all(store: &Store) -> Vec<AuditEvent> {
    let filter = EventFilter {
        limit: 10_000,
        ..EventFilter::default()
    };
    serde_json::from_str(&store.events(filter).await.unwrap().events).unwrap()
}

fn verify(events: &[AuditEvent]) {
    let mut walker = ChainWalker::from_start();
    for event in events {
        walker.feed(event, &HashSigner("test")).unwrap();
    }
    assert_eq!(usize::try_from(walker.finish().unwrap().sequence), Ok(events.len()));
}

#[tokio::test]
async fn two_replicas_keep_one_chain_without_gaps() {
    let database = Database::new();
    let (one, two) = tokio::join!(Bench::open(&database), Bench::open(&database));
    assert_eq!(one.store.epoch(), two.store.epoch(), "one of them began it");
    for _ in 0..20 {
        let (a, b, c, d) = tokio::join!(
            audit(&one, "one"),
            audit(&two, "two"),
            audit(&one, "one"),
            audit(&two, "two")
        );
        for done in [a, b, c, d] {
            done.unwrap();
        }
    }
    let found = all(&two.store).await;
    assert_eq!(found.len(), 80);
    verify(&found);
}

#[tokio::test]
async fn of_two_replicas_one_burns_a_nonce() {
    let database = Database::new();
    let (one, two) = tokio::join!(Bench::open(&database), Bench::open(&database));
    for number in 0..20 {
        let until = UnixSeconds::new(agentwrit_store::testing::START + 30).start();
        let burn = || Burn(number.to_string(), until);
        let (a, b) = tokio::join!(one.store.commit(burn()), two.store.commit(burn()));
        assert!(a.unwrap() != b.unwrap(), "exactly one");
    }
}

struct Burn(String, agentwrit_protocol::UnixMillis);

#[async_trait::async_trait]
impl agentwrit_store::Command for Burn {
    type Outcome = bool;

    async fn run(self, tx: &mut dyn agentwrit_store::Tx) -> Result<bool> {
        tx.consume_nonce(&self.0, self.1).await
    }
}

#[tokio::test]
async fn replicas_that_start_at_once_migrate_once() {
    let database = Database::new();
    let open = || Bench::open(&database);
    let (a, b, c, d) = tokio::join!(open(), open(), open(), open());
    for bench in [a, b, c, d] {
        assert!(bench.store.connected(), "{:?}", bench.store.failure());
    }
    let versions = "SELECT string_agg(version::text, ' ' ORDER BY version) FROM agentwrit.schema_versions";
    assert_eq!(database.sql(versions).unwrap(), "1 2");
}

#[tokio::test]
async fn a_database_that_grew_too_new_is_used_no_more() {
    let database = Database::new();
    let running = Bench::open(&database).await;
    audit(&running, "before").await.unwrap();
    // As a newer program's migration that takes away what this one needs.
    let contracted =
        "INSERT INTO agentwrit.schema_versions VALUES (4, 3); UPDATE agentwrit.chain_head SET oldest_program = 3";
    database.sql(contracted).unwrap();
    let refused = audit(&running, "never").await.unwrap_err().to_string();
    assert!(
        refused.contains("3 is newer than this broker's 2, and brokers older than 3"),
        "{refused}"
    );
    while running.store.failure() != Some("corrupt") {
        tokio::task::yield_now().await;
    }
    assert!(!running.store.connected());
    assert!(matches!(audit(&running, "never").await, Err(StoreError::NotOpen)));
    // Nor does it hear of what is revoked there.
    assert!(running.store.newest_view().await.is_err());
}

#[tokio::test]
async fn a_newer_database_is_opened_when_it_says_that_it_can_be() {
    let database = Database::new();
    Bench::open(&database).await.store.close().await.unwrap();
    let version = |version: i64, oldest: i64| {
        let sql = format!("INSERT INTO agentwrit.schema_versions VALUES ({version}, {oldest})");
        database.sql(&sql).unwrap();
    };
    version(3, 2);
    let expanded = Bench::open(&database).await;
    audit(&expanded, "the old program").await.unwrap();
    version(4, 3);
    let refused = Bench::open(&database).await;
    assert_eq!(
        (refused.store.connected(), refused.store.failure()),
        (false, Some("corrupt"))
    );
    assert!(matches!(audit(&refused, "never").await, Err(StoreError::NotOpen)));
}

/// Tells when the store was opened.
struct Loads(Notify);

impl RevocationListener for Loads {
    fn load(&self, _: UnixSeconds) -> Box<dyn RevocationLoad + '_> {
        gathered(|_| self.0.notify_one())
    }

    fn changed(&self, _: Vec<ViewChange>) {}
}

/// A store behind a proxy that loses what it is told to.
struct Behind {
    store: Store,
    proxy: Proxy,
    loads: Arc<Loads>,
}

async fn behind(database: &Database) -> Behind {
    let proxy = Proxy::start(server());
    let (around, ..) = surroundings();
    let loads = Arc::new(Loads(Notify::new()));
    let around = Surroundings {
        revocations: Arc::<Loads>::clone(&loads),
        ..around
    };
    let mut options = database.options();
    options.settings = proxy.settings(&database.name);
    let store = Store::new(PostgresStore::open(options, around).await.unwrap());
    loads.0.notified().await;
    Behind { store, proxy, loads }
}

async fn commit(store: &Store, value: &'static str) -> Result<()> {
    store.commit(Set(value)).await
}

struct Set(&'static str);

#[async_trait::async_trait]
impl agentwrit_store::Command for Set {
    type Outcome = ();

    async fn run(self, tx: &mut dyn agentwrit_store::Tx) -> Result<()> {
        tx.audit(EventDraft::success(EventType::AdminAuth, self.0));
        tx.set_meta(MetaKey::LeaseEpoch, self.0).await
    }
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found_again() {
    let database = Database::new();
    let Behind { store, proxy, loads } = behind(&database).await;
    commit(&store, "1").await.unwrap();
    proxy.lose(Lost::Answer);
    commit(&store, "2").await.unwrap();
    loads.0.notified().await;
    commit(&store, "3").await.unwrap();
    let found = all(&store).await;
    let details: Vec<_> = found.iter().map(|event| event.detail.as_str()).collect();
    assert_eq!(details, ["1", "2", "3"], "each is there once");
    verify(&found);
}

#[tokio::test]
async fn a_commit_that_did_not_arrive_changes_nothing() {
    let database = Database::new();
    let Behind { store, proxy, loads } = behind(&database).await;
    commit(&store, "1").await.unwrap();
    proxy.lose(Lost::Request);
    let error = commit(&store, "2").await.unwrap_err();
    assert_eq!(error.kind(), "connection", "{error}");
    loads.0.notified().await;
    commit(&store, "3").await.unwrap();
    let found = all(&store).await;
    let details: Vec<_> = found.iter().map(|event| event.detail.as_str()).collect();
    assert_eq!(details, ["1", "3"]);
    verify(&found);
}

#[tokio::test]
async fn a_server_that_is_back_is_used_again() {
    let database = Database::new();
    let Behind {
        store,
        proxy: _proxy,
        loads,
    } = behind(&database).await;
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() \
                 AND pid <> pg_backend_pid()";
    assert_ne!(
        database.sql(ended).unwrap(),
        "0",
        "the committer's, and that of the feed"
    );
    loads.0.notified().await;
    commit(&store, "1").await.unwrap();
    assert_eq!(all(&store).await.len(), 1);
}

fn installation(name: &str) -> Installation {
    Installation {
        name: Some(name.to_owned()),
        ..Installation::default()
    }
}

#[tokio::test]
async fn of_two_installations_one_has_an_empty_database() {
    let database = Database::new();
    let open = |name| database.open_as(surroundings().0, installation(name), Declared::default());
    let (a, b) = tokio::join!(open("a/agentwrit"), open("b/agentwrit"));
    let owner = database
        .sql("SELECT value FROM agentwrit.meta WHERE key = 'installation'")
        .unwrap();
    let (has_it, refused) = if owner == "a/agentwrit" { (a, b) } else { (b, a) };
    assert!(has_it.unwrap().connected());
    let refused = refused.err().unwrap();
    assert!(
        matches!(refused, StoreError::OtherInstallation { .. }) && refused.to_string().contains(&owner),
        "{refused}"
    );
}

#[tokio::test]
async fn a_database_that_became_anothers_is_used_no_more() {
    let database = Database::new();
    let ours = installation("a/agentwrit");
    let store = database
        .open_as(surroundings().0, ours, Declared::default())
        .await
        .unwrap();
    let taken_by = |name: &str| {
        let sql = format!("UPDATE agentwrit.meta SET value = '{name}' WHERE key = 'installation'");
        database.sql(&sql).unwrap();
    };
    taken_by("b/agentwrit");
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() \
                 AND pid <> pg_backend_pid()";
    assert_eq!(database.sql(ended).unwrap(), "1", "the committer's");
    while store.failure() != Some("installation") {
        tokio::task::yield_now().await;
    }
    assert!(matches!(commit(&store, "1").await, Err(StoreError::NotOpen)));
    taken_by("a/agentwrit");
    while !store.connected() {
        tokio::task::yield_now().await;
    }
    commit(&store, "1").await.unwrap();
}

#[tokio::test]
async fn opener_and_options_name_the_same_database() {
    let database = Database::new();
    let (around, ..) = surroundings();
    let store = database.open(around).await;
    assert!(store.connected() && store.persistent() && store.disk_space().is_none());
    assert_eq!(database.sql("SELECT count(*) FROM agentwrit.committers").unwrap(), "1");
}

#[tokio::test]
async fn one_replica_at_a_time_sweeps() {
    let database = Database::new();
    let (one, two) = tokio::join!(Bench::open(&database), Bench::open(&database));
    let begin = async |bench: &Bench| bench.commit(|tx| tx.begin_sweeps()).await.unwrap();
    assert!(begin(&one).await);
    assert!(!begin(&two).await);
    one.commit(|tx| tx.end_sweeps()).await.unwrap();
    assert!(begin(&two).await);
    assert!(!begin(&one).await);
    // Its end is the end of its connection.
    two.store.close().await.unwrap();
    drop(two);
    let mut others = "1".to_owned();
    while others != "0" {
        let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database \
                   WHERE datname = current_database())";
        others = database.sql(sql).unwrap();
    }
    assert!(begin(&one).await);
}

#[tokio::test]
async fn a_replica_dates_by_the_clock_of_the_database() {
    let database = Database::new();
    let (around, ..) = surroundings();
    // Its own clock stands at the beginning of 1970.
    let own = Arc::new(ManualClock::at(1000));
    let steered = Arc::new(SteeredClock::new(Arc::<ManualClock>::clone(&own)));
    let clock: Arc<dyn Clock> = Arc::<SteeredClock>::clone(&steered);
    let around = Surroundings {
        judging: Arc::new(JudgingClock::new(Arc::clone(&clock))),
        clock,
        reference: Some(Arc::clone(&steered)),
        ..around
    };
    let judging = Arc::clone(&around.judging);
    let store = database.open(around).await;
    let seconds = || {
        let sql = "SELECT floor(extract(epoch FROM clock_timestamp()))::bigint";
        UnixSeconds::new(database.sql(sql).unwrap().parse().unwrap())
    };
    let about_now = |told: UnixSeconds| (told.get() - seconds().get()).abs() < 300;
    assert!(about_now(steered.unix_seconds()) && about_now(judging.times().judged.second()));
    assert!(matches!(steered.skew(), Some((_, false))));
    own.jump(100 * 366 * 86_400);
    commit(&store, "1").await.unwrap();
    let events = all(&store).await;
    let year = &events[0].timestamp[..4];
    assert_eq!(year, &database.sql("SELECT to_char(now(), 'YYYY')").unwrap());
    assert!(matches!(steered.skew(), Some((_, true))));
}

#[tokio::test]
async fn replicas_that_are_told_of_a_restore_begin_one_epoch() {
    let database = Database::new();
    let before = Bench::open(&database).await;
    audit(&before, "before").await.unwrap();
    let old = before.store.epoch();
    before.store.close().await.unwrap();
    let declared = Declared {
        restored: PutBack::At(UnixSeconds::new(START)),
        ..Declared::default()
    };
    let open = || async {
        let opened = database.open_as(surroundings().0, Installation::default(), declared);
        opened.await.unwrap()
    };
    let (one, two) = tokio::join!(open(), open());
    // With the same arguments, as a process that ends is started again.
    let three = open().await;
    assert_ne!(one.epoch(), old);
    for other in [&two, &three] {
        assert_eq!(other.epoch(), one.epoch());
    }
    let told = all(&three).await;
    let told = told.iter().filter(|event| event.event_type == "store_restored");
    assert_eq!(told.count(), 1);
}
