//! The trail's tables: nothing in them is changed, and what goes goes by segments that may go.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use agentwrit_protocol::audit::{AuditEvent, ChainWalker, EventType};
use agentwrit_store::testing::suite::Bench;
use agentwrit_store::testing::{HashSigner, surroundings};
use agentwrit_store::{Command, EventDraft, EventFilter, FilterColumn, Result, Retention, Segment, Store, Tx};
use agentwrit_store_postgres::testing::{Database, server};
use agentwrit_store_postgres::{OpenOptions, PostgresStore, Settings};
use async_trait::async_trait;

/// A store with segments of 1 MiB, as the owner of the tables or another role.
async fn open(database: &Database, role: &str) -> Bench {
    let (around, clock, recorder) = surroundings();
    let options = OpenOptions {
        settings: Settings::parse(&server().url(role, &database.name), None).unwrap(),
        retention: Retention {
            max_bytes: agentwrit_store::segment::LEAST_BOUND,
            ..Retention::default()
        },
        ..database.options()
    };
    Bench {
        store: Store::new(PostgresStore::open(options, around).await.unwrap()),
        clock,
        recorder,
    }
}

/// Appends so many events.
struct Tell(usize);

#[async_trait]
impl Command for Tell {
    type Outcome = ();

    async fn run(self, tx: &mut dyn Tx) -> Result<()> {
        for number in 0..self.0 {
            let task = if number % 2 == 0 { "even" } else { "odd" };
            tx.audit(EventDraft::success(EventType::AdminAuth, number.to_string()).task(&task.into()));
        }
        Ok(())
    }
}

/// Takes a segment out of the trail.
struct DropIt(Segment);

#[async_trait]
impl Command for DropIt {
    type Outcome = ();

    async fn run(self, tx: &mut dyn Tx) -> Result<()> {
        tx.drop_segment(&self.0).await
    }
}

struct Sweep;

#[async_trait]
impl Command for Sweep {
    type Outcome = ();

    async fn run(self, tx: &mut dyn Tx) -> Result<()> {
        tx.sweep_dropped().await
    }
}

/// Some 1.5 MiB: one segment is sealed, and one grows.
const EVENTS: usize = 3_000;

async fn events(store: &Store, filter: EventFilter) -> (Vec<AuditEvent>, i64) {
    let page = store.events(filter).await.unwrap();
    (serde_json::from_str(&page.events).unwrap(), page.total)
}

fn everything() -> EventFilter {
    EventFilter {
        limit: 10_000,
        ..EventFilter::default()
    }
}

fn odd() -> EventFilter {
    EventFilter {
        exact: vec![(FilterColumn::TaskId, "odd".to_owned())],
        limit: 10_000,
        ..EventFilter::default()
    }
}

fn partitions(database: &Database) -> String {
    let sql = "SELECT string_agg(first::text, ' ' ORDER BY first) FROM agentwrit.segment_partitions()";
    database.sql(sql).unwrap()
}

async fn oldest(bench: &Bench) -> Segment {
    let found = bench.store.query(|tx| tx.oldest_segment()).await.unwrap();
    found.unwrap()
}

#[tokio::test]
async fn the_trail_goes_by_sealed_segments() {
    let database = Database::new();
    let bench = open(&database, "owner").await;
    bench.store.commit(Tell(EVENTS)).await.unwrap();
    let (before, total) = events(&bench.store, everything()).await;
    assert_eq!(usize::try_from(total), Ok(before.len()));
    let segment = oldest(&bench).await;
    assert_eq!(segment.first, 1);
    assert_eq!(partitions(&database), format!("1 {}", segment.last + 1));
    let odd_before = events(&bench.store, odd()).await.0.len();

    bench.store.commit(DropIt(segment.clone())).await.unwrap();
    let gone = usize::try_from(segment.last).unwrap();
    let (after, total) = events(&bench.store, everything()).await;
    assert_eq!(
        (after.len(), usize::try_from(total).unwrap()),
        (before.len() - gone, before.len() - gone)
    );
    assert_eq!(after.first().unwrap().event_type, EventType::AuditCheckpoint.as_str());
    assert_eq!(bench.store.event_count(), total);
    assert!(events(&bench.store, odd()).await.0.len() < odd_before);
    assert!(bench.store.query(|tx| tx.any_dropped()).await.unwrap());
    bench.store.commit(Sweep).await.unwrap();
    assert!(!bench.store.query(|tx| tx.any_dropped()).await.unwrap());
    assert_eq!(partitions(&database), (segment.last + 1).to_string());

    let bench = {
        bench.store.close().await.unwrap();
        open(&database, "owner").await
    };
    bench.store.commit(Tell(1)).await.unwrap();
    let (found, _) = events(&bench.store, everything()).await;
    let mut walker = ChainWalker::from_checkpoint();
    for event in &found {
        walker.feed(event, &HashSigner("test")).unwrap();
    }
    assert_eq!(found.len(), after.len() + 1);
}

#[tokio::test]
async fn what_may_not_go_is_refused() {
    let database = Database::new();
    let bench = open(&database, "owner").await;
    bench.store.commit(Tell(EVENTS)).await.unwrap();
    let segment = oldest(&bench).await;
    let refused = |begins: i64, why: &str| {
        let error = database
            .sql(&format!("SELECT agentwrit.drop_segment({begins})"))
            .unwrap_err();
        assert!(error.contains(why), "{error}");
    };
    refused(segment.last + 1, "is not sealed");
    refused(7, "is not sealed");
    database
        .sql("UPDATE agentwrit.trail_rules SET least_days = 36500")
        .unwrap();
    refused(1, "is younger than 36500 days");
    let error = bench.store.commit(DropIt(segment)).await.unwrap_err();
    assert_eq!(error.kind(), "access", "{error}");
    assert_eq!(partitions(&database).split(' ').count(), 2);
    // The batch that failed has changed nothing, and the store goes on.
    bench.store.commit(Tell(1)).await.unwrap();
}

#[tokio::test]
async fn rows_of_the_trail_are_neither_changed_nor_removed() {
    let database = Database::new();
    let bench = open(&database, "owner").await;
    bench.store.commit(Tell(2)).await.unwrap();
    for sql in [
        "UPDATE agentwrit.audit_events SET json = ''",
        "DELETE FROM agentwrit.audit_events",
        "UPDATE agentwrit.audit_events_1 SET json = ''",
        "DELETE FROM agentwrit.audit_events_1 WHERE seq = 1",
    ] {
        let error = database.sql(sql).unwrap_err();
        assert!(error.contains("only appended to"), "{sql}: {error}");
    }
}

#[tokio::test]
async fn a_role_of_its_own_can_do_what_the_broker_does() {
    let database = Database::new();
    let role = format!("role_{}", database.name);
    open(&database, "owner").await.store.close().await.unwrap();
    database.sql(&format!("CREATE ROLE {role} LOGIN")).unwrap();
    let bench = open(&database, &role).await;
    assert_eq!(bench.store.failure(), Some("access"), "nothing was granted yet");
    database
        .sql(&format!("SELECT agentwrit.grant_broker('{role}')"))
        .unwrap();
    let bench = open(&database, &role).await;
    assert!(bench.store.connected(), "{:?}", bench.store.failure());
    bench.store.commit(Tell(EVENTS)).await.unwrap();
    let segment = oldest(&bench).await;
    bench.store.commit(DropIt(segment)).await.unwrap();
    bench.store.commit(Sweep).await.unwrap();
    bench.store.query(|tx| tx.count_live_sessions()).await.unwrap();
    for sql in [
        "UPDATE agentwrit.audit_events SET json = ''",
        "DELETE FROM agentwrit.audit_events",
        "TRUNCATE agentwrit.audit_events",
        "DELETE FROM agentwrit.audit_segments",
        "UPDATE agentwrit.audit_segments SET last_at = 0",
        "UPDATE agentwrit.trail_rules SET least_days = 0",
        "INSERT INTO agentwrit.dropped_segments VALUES (1, 1)",
        "DROP TABLE agentwrit.audit_events",
    ] {
        let error = database.sql(&format!("SET ROLE {role}; {sql}")).unwrap_err();
        assert!(
            error.contains("permission denied") || error.contains("must be owner"),
            "{sql}: {error}"
        );
    }
}

#[tokio::test]
async fn a_trail_that_was_cut_off_is_not_continued() {
    let database = Database::new();
    let bench = open(&database, "owner").await;
    bench.store.commit(Tell(5)).await.unwrap();
    bench.store.close().await.unwrap();
    let cut = "SET session_replication_role = replica; DELETE FROM agentwrit.audit_events WHERE seq = 5; \
               UPDATE agentwrit.chain_head SET sequence = 4";
    database.sql(cut).unwrap();
    let bench = open(&database, "owner").await;
    assert_eq!(bench.store.failure(), Some("broken_chain"));
}

#[tokio::test]
async fn texts_come_back_with_what_postgresql_has_no_place_for() {
    let database = Database::new();
    let bench = open(&database, "owner").await;
    let name = "nul \0 and \u{10ffff} and \u{1f980}";
    let told = bench.store.commit(Odd(name));
    told.await.unwrap();
    let filter = EventFilter {
        exact: vec![(FilterColumn::TaskId, name.to_owned())],
        ..everything()
    };
    let (found, total) = events(&bench.store, filter).await;
    assert_eq!((found.len(), total), (1, 1));
    assert_eq!(found[0].task_id, name);
}

struct Odd(&'static str);

#[async_trait]
impl Command for Odd {
    type Outcome = ();

    async fn run(self, tx: &mut dyn Tx) -> Result<()> {
        tx.audit(EventDraft::success(EventType::AdminAuth, self.0).task(&self.0.into()));
        Ok(())
    }
}
