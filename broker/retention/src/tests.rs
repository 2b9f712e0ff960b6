mod hanging_exports;

use std::sync::Arc;

use std::sync::atomic::{AtomicU64, Ordering};

use agentwrit_protocol::audit::{AuditEvent, EventType};
use agentwrit_protocol::clock::ManualClock;
use agentwrit_store::StoreLocation;
use agentwrit_store::testing::surroundings;
use agentwrit_store::{Command, EventDraft, EventFilter, FilterColumn, StoreError, TakesAuthority, Tx, WhenFull};
use agentwrit_store_sqlite::{OpenOptions, SqliteStore};
use async_trait::async_trait;
use serde_json::Value;
use tempfile::TempDir;

use super::*;

const DAY: i64 = 86_400;
/// Less than the reserve, and all that one could wish for.
const SCARCE: u64 = 32 * 1024 * 1024;
const PLENTY: u64 = 1 << 40;

/// Somebody who ends something, and somebody who begins something.
struct Write<const TAKES_AUTHORITY: bool>;

#[async_trait]
impl<const TAKES_AUTHORITY: bool> Command for Write<TAKES_AUTHORITY> {
    type Outcome = ();
    const TAKES_AUTHORITY: TakesAuthority<Self> = if TAKES_AUTHORITY {
        TakesAuthority::Again(|_| Self)
    } else {
        TakesAuthority::No
    };

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<()> {
        tx.audit(EventDraft::success(EventType::AdminAuth, "x".repeat(1000)));
        Ok(())
    }
}

/// Counts what the retention reports.
#[derive(Default)]
struct Counts {
    failed_exports: AtomicU64,
}

impl RetentionObserver for Counts {
    fn segment_dropped(&self, _exported: bool) {}

    fn export_failed(&self) {
        self.failed_exports.fetch_add(1, Ordering::SeqCst);
    }
}

/// A store with its retention.
struct World {
    retention: AuditRetention,
    store: Store,
    clock: Arc<ManualClock>,
    judging: Arc<JudgingClock>,
    counts: Arc<Counts>,
    _folder: TempDir,
}

impl World {
    async fn new(policy: Retention, location: StoreLocation) -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (surroundings, clock, _) = surroundings();
        let judging = Arc::clone(&surroundings.judging);
        let shared = Arc::clone(&surroundings.clock);
        let options = OpenOptions {
            location: location.clone(),
            retention: policy.clone(),
            ..OpenOptions::in_folder(folder.path())
        };
        let store = Store::new(SqliteStore::open(options, surroundings).await.unwrap());
        let counts = Arc::new(Counts::default());
        let observer = Arc::<Counts>::clone(&counts);
        let retention = AuditRetention::new(
            policy,
            location.path().map(Path::to_owned),
            store.clone(),
            shared,
            Arc::clone(&judging),
            observer,
        );
        Arc::new(Self {
            retention,
            store,
            clock,
            judging,
            counts,
            _folder: folder,
        })
    }

    /// Has three sealed segments, each of a day.
    async fn three_days(policy: Retention) -> Arc<Self> {
        let world = Self::new(policy, StoreLocation::Memory).await;
        for day in 0..4 {
            world.clock.advance(if day == 0 { 0 } else { DAY });
            world.write(3).await;
        }
        world
    }

    async fn write(&self, events: usize) {
        for _ in 0..events {
            self.store.commit(Write::<false>).await.unwrap();
        }
    }

    /// Has the store act as if its disk had so many bytes left.
    fn set_free(&self, bytes: u64) {
        self.store.backend::<SqliteStore>().unwrap().set_free(bytes);
    }

    fn failed_exports(&self) -> u64 {
        self.counts.failed_exports.load(Ordering::SeqCst)
    }
}

fn days(days: i64) -> Retention {
    Retention {
        days,
        ..Retention::default()
    }
}

fn exported_to(folder: &Path, full: WhenFull) -> Retention {
    Retention {
        export: Some(folder.to_owned()),
        full,
        ..days(1)
    }
}

async fn first_event(world: &World) -> Value {
    let filter = EventFilter {
        limit: 1,
        ..EventFilter::default()
    };
    let page = world.store.events(filter).await.unwrap();
    serde_json::from_str::<Value>(&page.events).unwrap()[0].take()
}

async fn dropped_by(world: &World) -> Vec<(DropRule, bool)> {
    let filter = EventFilter {
        exact: vec![(FilterColumn::EventType, "audit_segment_dropped".to_owned())],
        limit: 100,
        ..EventFilter::default()
    };
    let page = world.store.events(filter).await.unwrap();
    let events: Vec<AuditEvent> = serde_json::from_str(&page.events).unwrap();
    let told = events.iter().map(|event| DroppedSegment::from_event(event).unwrap());
    told.map(|dropped| (dropped.rule, dropped.exported.is_some())).collect()
}

#[tokio::test]
async fn events_that_are_too_old_are_dropped_and_the_rest_kept() {
    let world = World::three_days(days(2)).await;
    world.retention.apply().await;
    assert_eq!(
        dropped_by(&world).await,
        [(DropRule::Age, false)],
        "of four days the first"
    );
    let first = first_event(&world).await;
    assert_eq!(
        (&first["id"], &first["event_type"]),
        (&"evt-000004".into(), &"audit_checkpoint".into())
    );
    world.clock.advance(30 * DAY);
    for gone in 2..=3 {
        world.retention.apply().await;
        world.retention.apply().await;
        assert_eq!(dropped_by(&world).await.len(), gone, "one at a time");
        world.clock.advance(299);
        world.retention.apply().await;
        assert_eq!(dropped_by(&world).await.len(), gone);
        world.clock.advance(1);
    }
    world.retention.apply().await;
    let oldest = world.store.query(|tx| tx.oldest_segment()).await.unwrap();
    assert!(oldest.is_none());
}

#[tokio::test]
async fn a_clock_that_is_wrong_takes_little_of_the_trail() {
    let world = World::three_days(days(30)).await;
    world.retention.apply().await;
    world.clock.jump(365 * DAY);
    world.judging.observe();
    world.clock.advance(600);
    world.judging.observe();
    assert_eq!(
        world.judging.times().passed(),
        world.clock.unix_millis(),
        "it is believed"
    );
    for minute in 0..60 {
        world.retention.apply().await;
        assert_eq!(dropped_by(&world).await, [], "minute {minute}");
        world.clock.advance(60);
    }
    world.retention.apply().await;
    assert_eq!(dropped_by(&world).await, [(DropRule::Age, false)]);
    assert!(world.retention.pace.lock().await.warned);
    world.clock.advance(299);
    world.retention.apply().await;
    assert_eq!(dropped_by(&world).await.len(), 1);
    world.clock.advance(1);
    world.retention.apply().await;
    assert_eq!(dropped_by(&world).await.len(), 2);
}

#[tokio::test]
async fn events_that_are_dated_ahead_go_with_those_around_them() {
    let world = World::three_days(days(2)).await;
    let dated_ahead = async || {
        let filter = EventFilter {
            limit: 1000,
            ..EventFilter::default()
        };
        let page = world.store.events(filter).await.unwrap();
        page.events.matches(r#""timestamp":"2028-"#).count()
    };
    world.clock.jump(365 * DAY);
    world.write(1).await;
    world.clock.jump(-365 * DAY);
    assert_eq!(dated_ahead().await, 2, "the event, and the checkpoint before it");
    world.write(3).await;
    world.clock.advance(DAY);
    for _ in 0..12 {
        world.retention.apply().await;
        world.clock.advance(300);
    }
    assert_eq!(dated_ahead().await, 2, "they are no older than two days");
    for _ in 0..4 {
        world.clock.advance(DAY);
        world.write(3).await;
        world.retention.apply().await;
    }
    for _ in 0..12 {
        world.clock.advance(300);
        world.retention.apply().await;
    }
    assert_eq!(dated_ahead().await, 0);
}

#[tokio::test]
async fn on_a_full_disk_the_oldest_go_when_that_is_wished_for() {
    for (full, gone) in [
        (WhenFull::Drop, vec![(DropRule::Full, false); 3]),
        (WhenFull::Refuse, vec![]),
    ] {
        let world = World::three_days(Retention { full, ..days(1000) }).await;
        world.retention.apply().await;
        assert_eq!(dropped_by(&world).await, []);
        world.set_free(SCARCE);
        world.retention.apply().await;
        assert_eq!(dropped_by(&world).await, gone, "{full:?}");
        assert_eq!(world.store.failure(), None);
        world.write(1).await;
    }
}

#[tokio::test]
async fn events_without_an_export_stay_until_the_disk_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let export = folder.path().join("later");
    let world = World::three_days(exported_to(&export, WhenFull::Drop)).await;
    world.retention.apply().await;
    world.retention.apply().await;
    assert_eq!(world.failed_exports(), 1, "it rests");
    assert_eq!(dropped_by(&world).await, []);
    world.set_free(SCARCE);
    world.retention.apply().await;
    assert_eq!(dropped_by(&world).await, [(DropRule::Full, false); 3]);
    world.set_free(PLENTY);
    std::fs::create_dir(&export).unwrap();
    world.write(3).await;
    world.clock.advance(3 * DAY);
    world.write(1).await;
    world.retention.apply().await;
    assert_eq!(dropped_by(&world).await.last(), Some(&(DropRule::Age, true)));
}

#[tokio::test]
async fn a_broker_that_may_drop_nothing_does_only_what_ends_authority() {
    let folder = tempfile::tempdir().unwrap();
    let export = folder.path().join("later");
    let world = World::three_days(exported_to(&export, WhenFull::Refuse)).await;
    world.retention.apply().await;
    world.write(1).await;
    world.set_free(SCARCE);
    world.retention.apply().await;
    assert!(world.store.refuses());
    let refused = world.store.commit(Write::<false>).await;
    assert!(matches!(refused, Err(StoreError::AuditFull)), "{refused:?}");
    assert!(world.store.commit(Write::<true>).await.is_ok());
    assert!(
        !world
            .store
            .append(EventDraft::success(EventType::TokenAuthFailed, "stranger"))
    );
    assert_eq!(
        first_event(&world).await["id"],
        "evt-000001",
        "it can be read, and nothing is gone"
    );

    world.set_free(PLENTY);
    world.retention.apply().await;
    world.write(1).await;
    world.set_free(SCARCE);
    world.retention.apply().await;
    std::fs::create_dir(&export).unwrap();
    world.clock.advance(10);
    world.retention.apply().await;
    assert_eq!(world.store.failure(), None, "an export has succeeded");
    world.write(1).await;
    let gone = dropped_by(&world).await;
    assert!(
        gone.len() >= 3 && gone.iter().all(|gone| *gone == (DropRule::Age, true)),
        "{gone:?}"
    );
}

#[tokio::test]
async fn an_export_folder_on_the_disk_of_the_store_is_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    let export = folder.path();
    let file = |name: &str| StoreLocation::File(export.join(name));
    let warning = async |location, export: Option<&Path>| {
        let policy = Retention {
            export: export.map(Path::to_owned),
            ..Retention::default()
        };
        World::new(policy, location).await.retention.same_file_system()
    };
    let warned = warning(file("data.db"), Some(export)).await.unwrap();
    assert!(warned.starts_with("AA_AUDIT_EXPORT_DIR=") && warned.contains("the file system of the store"));
    assert_eq!(warning(file("third.db"), Some(Path::new("/proc"))).await, None);
    assert_eq!(warning(file("other.db"), None).await, None);
    assert_eq!(warning(StoreLocation::Memory, Some(export)).await, None);
}
