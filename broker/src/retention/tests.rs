use std::sync::Arc;

use agentwrit_protocol::audit::AuditEvent;
use agentwrit_protocol::clock::ManualClock;
use agentwrit_store::StoreError;
use serde_json::Value;

use super::*;
use crate::testing::{broker_with, set_free};

const DAY: i64 = 86_400;
/// Less than the reserve, and all that one could wish for.
const SCARCE: u64 = 32 * 1024 * 1024;
const PLENTY: u64 = 1 << 40;

/// Somebody who ends something, and somebody who begins something.
struct Write<const TAKES_AUTHORITY: bool>;

#[async_trait]
impl<const TAKES_AUTHORITY: bool> Command for Write<TAKES_AUTHORITY> {
    type Outcome = ();
    const TAKES_AUTHORITY: bool = TAKES_AUTHORITY;

    fn again(&self) -> Option<Self> {
        TAKES_AUTHORITY.then_some(Self)
    }

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<()> {
        tx.audit(EventDraft::success(EventType::AdminAuth, "x".repeat(1000)));
        Ok(())
    }
}

async fn write(broker: &Broker, events: usize) {
    for _ in 0..events {
        broker.store.commit(Write::<false>).await.unwrap();
    }
}

/// A broker with three sealed segments, each of a day.
async fn three_days(more: &[(&str, &str)]) -> (AppState, Arc<ManualClock>) {
    let (broker, clock) = broker_with(more).await;
    for day in 0..4 {
        clock.advance(if day == 0 { 0 } else { DAY });
        write(&broker, 3).await;
    }
    (broker, clock)
}

async fn first_event(broker: &Broker) -> Value {
    let filter = agentwrit_store::EventFilter {
        limit: 1,
        ..agentwrit_store::EventFilter::default()
    };
    let page = broker.store.events(filter).await.unwrap();
    serde_json::from_str::<Value>(&page.events).unwrap()[0].take()
}

async fn dropped_by(broker: &Broker) -> Vec<(DropRule, bool)> {
    let filter = agentwrit_store::EventFilter {
        exact: vec![(
            agentwrit_store::FilterColumn::EventType,
            "audit_segment_dropped".to_owned(),
        )],
        limit: 100,
        ..agentwrit_store::EventFilter::default()
    };
    let page = broker.store.events(filter).await.unwrap();
    let events: Vec<AuditEvent> = serde_json::from_str(&page.events).unwrap();
    let told = events.iter().map(|event| DroppedSegment::from_event(event).unwrap());
    told.map(|dropped| (dropped.rule, dropped.exported.is_some())).collect()
}

#[tokio::test]
async fn what_is_too_old_goes_and_the_rest_stays() {
    let (broker, clock) = three_days(&[("AA_AUDIT_RETENTION_DAYS", "2")]).await;
    retain(&broker).await;
    assert_eq!(
        dropped_by(&broker).await,
        [(DropRule::Age, false)],
        "of four days the first"
    );
    let first = first_event(&broker).await;
    assert_eq!(
        (&first["id"], &first["event_type"]),
        (&"evt-000004".into(), &"audit_checkpoint".into())
    );
    clock.advance(30 * DAY);
    for gone in 2..=3 {
        retain(&broker).await;
        retain(&broker).await;
        assert_eq!(dropped_by(&broker).await.len(), gone, "one at a time");
        clock.advance(299);
        retain(&broker).await;
        assert_eq!(dropped_by(&broker).await.len(), gone);
        clock.advance(1);
    }
    retain(&broker).await;
    assert_eq!(broker.metrics.audit_segments.get(), 0);
}

#[tokio::test]
async fn a_clock_that_is_wrong_takes_little_of_the_trail() {
    let (broker, clock) = three_days(&[("AA_AUDIT_RETENTION_DAYS", "30")]).await;
    retain(&broker).await;
    clock.jump(365 * DAY);
    broker.judging.observe();
    clock.advance(600);
    broker.judging.observe();
    assert_eq!(broker.judging.times().passed(), clock.unix_millis(), "it is believed");
    for minute in 0..60 {
        retain(&broker).await;
        assert_eq!(dropped_by(&broker).await, [], "minute {minute}");
        clock.advance(60);
    }
    retain(&broker).await;
    assert_eq!(dropped_by(&broker).await, [(DropRule::Age, false)]);
    assert!(broker.retaining.pace.lock().await.told);
    clock.advance(299);
    retain(&broker).await;
    assert_eq!(dropped_by(&broker).await.len(), 1);
    clock.advance(1);
    retain(&broker).await;
    assert_eq!(dropped_by(&broker).await.len(), 2);
}

#[tokio::test]
async fn events_that_are_dated_ahead_go_with_those_around_them() {
    let (broker, clock) = three_days(&[("AA_AUDIT_RETENTION_DAYS", "2")]).await;
    let dated_ahead = async || {
        let filter = agentwrit_store::EventFilter {
            limit: 1000,
            ..agentwrit_store::EventFilter::default()
        };
        let page = broker.store.events(filter).await.unwrap();
        page.events.matches(r#""timestamp":"2028-"#).count()
    };
    clock.jump(365 * DAY);
    write(&broker, 1).await;
    clock.jump(-365 * DAY);
    assert_eq!(dated_ahead().await, 2, "the event, and the checkpoint before it");
    write(&broker, 3).await;
    clock.advance(DAY);
    for _ in 0..12 {
        retain(&broker).await;
        clock.advance(300);
    }
    assert_eq!(dated_ahead().await, 2, "they are no older than two days");
    for _ in 0..4 {
        clock.advance(DAY);
        write(&broker, 3).await;
        retain(&broker).await;
    }
    for _ in 0..12 {
        clock.advance(300);
        retain(&broker).await;
    }
    assert_eq!(dated_ahead().await, 0);
}

#[tokio::test]
async fn on_a_full_disk_the_oldest_go_when_that_is_wished_for() {
    let days = ("AA_AUDIT_RETENTION_DAYS", "1000");
    for (full, gone) in [("drop", vec![(DropRule::Full, false); 3]), ("refuse", vec![])] {
        let (broker, _clock) = three_days(&[days, ("AA_AUDIT_FULL", full)]).await;
        retain(&broker).await;
        assert_eq!(dropped_by(&broker).await, []);
        set_free(&broker, SCARCE);
        retain(&broker).await;
        assert_eq!(dropped_by(&broker).await, gone, "{full}");
        assert_eq!(broker.store.failure(), None);
        write(&broker, 1).await;
    }
}

#[tokio::test]
async fn what_can_not_be_exported_stays_until_the_disk_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let export = folder.path().join("later");
    let more = [
        ("AA_AUDIT_RETENTION_DAYS", "1"),
        ("AA_AUDIT_EXPORT_DIR", export.to_str().unwrap()),
        ("AA_AUDIT_FULL", "drop"),
    ];
    let (broker, clock) = three_days(&more).await;
    retain(&broker).await;
    retain(&broker).await;
    assert_eq!(broker.metrics.audit_export_failures.get(), 1, "it rests");
    assert_eq!(dropped_by(&broker).await, []);
    set_free(&broker, SCARCE);
    retain(&broker).await;
    assert_eq!(dropped_by(&broker).await, [(DropRule::Full, false); 3]);
    set_free(&broker, PLENTY);
    std::fs::create_dir(&export).unwrap();
    write(&broker, 3).await;
    clock.advance(3 * DAY);
    write(&broker, 1).await;
    retain(&broker).await;
    assert_eq!(dropped_by(&broker).await.last(), Some(&(DropRule::Age, true)));
}

#[tokio::test]
async fn a_broker_that_may_drop_nothing_does_only_what_ends_authority() {
    let folder = tempfile::tempdir().unwrap();
    let export = folder.path().join("later");
    let more = [
        ("AA_AUDIT_RETENTION_DAYS", "1"),
        ("AA_AUDIT_EXPORT_DIR", export.to_str().unwrap()),
    ];
    let (broker, clock) = three_days(&more).await;
    retain(&broker).await;
    write(&broker, 1).await;
    set_free(&broker, SCARCE);
    retain(&broker).await;
    assert!(broker.store.refuses());
    let refused = broker.store.commit(Write::<false>).await;
    assert!(matches!(refused, Err(StoreError::AuditFull)), "{refused:?}");
    assert!(broker.store.commit(Write::<true>).await.is_ok());
    assert!(
        !broker
            .store
            .append(EventDraft::success(EventType::TokenAuthFailed, "stranger"))
    );
    assert_eq!(
        first_event(&broker).await["id"],
        "evt-000001",
        "it can be read, and nothing is gone"
    );

    set_free(&broker, PLENTY);
    retain(&broker).await;
    write(&broker, 1).await;
    set_free(&broker, SCARCE);
    retain(&broker).await;
    std::fs::create_dir(&export).unwrap();
    clock.advance(10);
    retain(&broker).await;
    assert_eq!(broker.store.failure(), None, "an export has succeeded");
    write(&broker, 1).await;
    let gone = dropped_by(&broker).await;
    assert!(
        gone.len() >= 3 && gone.iter().all(|gone| *gone == (DropRule::Age, true)),
        "{gone:?}"
    );
}

#[tokio::test]
async fn an_export_folder_on_the_disk_of_the_store_is_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (store, other, third, export) = (
        at("data.db"),
        at("other.db"),
        at("third.db"),
        folder.path().display().to_string(),
    );
    let warning = async |more: &[(&str, &str)]| same_file_system(&broker_with(more).await.0.config);
    let stored = ("AA_DB_PATH", store.as_str());
    let warned = warning(&[stored, ("AA_AUDIT_EXPORT_DIR", &export)]).await.unwrap();
    assert!(warned.starts_with("AA_AUDIT_EXPORT_DIR=") && warned.contains("the file system of the store"));
    assert_eq!(
        warning(&[("AA_DB_PATH", &third), ("AA_AUDIT_EXPORT_DIR", "/proc")]).await,
        None
    );
    assert_eq!(warning(&[("AA_DB_PATH", &other)]).await, None);
    assert_eq!(warning(&[("AA_AUDIT_EXPORT_DIR", &export)]).await, None, "in memory");
}

/// A file that blocks whoever opens it to write, in the place of the one that the next export writes.
fn blocking_file(broker: &Broker, folder: &std::path::Path, segment: &Segment) -> std::path::PathBuf {
    let (epoch, first, last) = (broker.store.epoch(), segment.first, segment.last);
    let path = folder.join(format!("audit-{epoch}-{first:06}-{last:06}.jsonl.part"));
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    path
}

/// Begins the exports, of which the first one hangs; the name of what ends that when it is opened to be read.
async fn hang(broker: &AppState, folder: &std::path::Path) -> (std::path::PathBuf, tokio::task::JoinHandle<()>) {
    let segment = broker.store.query(|tx| tx.unexported_segment()).await.unwrap().unwrap();
    let path = blocking_file(broker, folder, &segment);
    let exporter = Arc::clone(broker);
    let task = tokio::spawn(async move { exporting::export_due(&exporter).await });
    while !broker.retaining.exporting.is_running() {
        tokio::task::yield_now().await;
    }
    (path, task)
}

#[tokio::test]
async fn an_export_that_hangs_holds_up_no_drop_of_what_is_exported() {
    let folder = tempfile::tempdir().unwrap();
    let more = [
        ("AA_AUDIT_RETENTION_DAYS", "1"),
        ("AA_AUDIT_EXPORT_DIR", folder.path().to_str().unwrap()),
    ];
    let (broker, clock) = three_days(&more).await;
    exporting::export_due(&broker).await;
    clock.advance(DAY);
    write(&broker, 1).await;
    let segment = broker.store.query(|tx| tx.unexported_segment()).await.unwrap().unwrap();
    let path = blocking_file(&broker, folder.path(), &segment);
    let worker = Arc::clone(&broker);
    let task = tokio::spawn(async move { run(&worker).await });
    while dropped_by(&broker).await.is_empty() || !broker.retaining.exporting.is_running() {
        tokio::task::yield_now().await;
    }
    let gone = dropped_by(&broker).await;
    assert!(gone.iter().all(|gone| *gone == (DropRule::Age, true)), "{gone:?}");
    task.abort();
    drop(std::fs::File::open(path).unwrap());
}

#[tokio::test]
async fn an_export_that_hangs_is_soon_taken_for_one_that_failed() {
    for (full, gone) in [("drop", vec![(DropRule::Full, false); 3]), ("refuse", vec![])] {
        let folder = tempfile::tempdir().unwrap();
        let more = [
            ("AA_AUDIT_RETENTION_DAYS", "1"),
            ("AA_AUDIT_EXPORT_DIR", folder.path().to_str().unwrap()),
            ("AA_AUDIT_FULL", full),
        ];
        let (broker, clock) = three_days(&more).await;
        let (path, task) = hang(&broker, folder.path()).await;
        set_free(&broker, SCARCE);
        drop_due(&broker).await;
        assert_eq!(dropped_by(&broker).await, [], "it may end in time");
        assert_eq!(
            (broker.store.refuses(), broker.metrics.audit_export_failures.get()),
            (false, 0)
        );
        clock.advance(20);
        drop_due(&broker).await;
        assert_eq!(dropped_by(&broker).await, gone, "{full}");
        assert_eq!(
            (broker.store.refuses(), broker.metrics.audit_export_failures.get()),
            (gone.is_empty(), 1)
        );
        set_free(&broker, PLENTY);
        drop_due(&broker).await;
        assert!(!broker.store.refuses(), "there is room again");
        drop(std::fs::File::open(path).unwrap());
        task.await.unwrap();
        // One that was dropped meanwhile is no failure.
        assert_eq!(
            broker.metrics.audit_export_failures.get(),
            if gone.is_empty() { 2 } else { 1 },
            "{full}"
        );
    }
}
