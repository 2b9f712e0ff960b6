//! The trail is shortened at its beginning: what goes, what is exported before, and what stays true of the rest.

mod random_history;

use agentwrit_testkit::{Harness, stores};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agentwrit_broker::process::housekeeping;
use agentwrit_protocol::Clock;
use agentwrit_protocol::audit::{
    AuditEvent, ChainWalker, DropRule, DroppedSegment, EventType, SignatureCheck, Summary,
};
use agentwrit_protocol::lower_hex;
use agentwrit_protocol::timestamp::parse_rfc3339;
use agentwrit_store::FilterColumn;
use agentwrit_store::{EventDraft, EventFilter, EventPage};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::chain::{fill, keys, trail};

const DAY: i64 = 86_400;
const DAYS: &[(&str, &str)] = &[("AA_AUDIT_RETENTION_DAYS", "2")];
const EXPORTED: &[(&str, &str)] = &[
    ("AA_AUDIT_RETENTION_DAYS", "2"),
    ("AA_AUDIT_EXPORT_DIR", "{folder}/export"),
];

async fn page(harness: &Harness, filter: EventFilter) -> EventPage {
    harness.state.store.events(filter).await.unwrap()
}

fn events(page: &EventPage) -> Vec<AuditEvent> {
    serde_json::from_str(&page.events).unwrap()
}

/// All events of a store, without a login.
async fn kept(harness: &Harness) -> Vec<AuditEvent> {
    let mut all = Vec::new();
    let mut cursor = 0;
    loop {
        let filter = EventFilter {
            cursor: Some(cursor),
            limit: 700,
            ..EventFilter::default()
        };
        let page = page(harness, filter).await;
        all.extend(events(&page));
        match page.last {
            Some(last) => cursor = last,
            None => return all,
        }
    }
}

fn second(event: &AuditEvent) -> i64 {
    parse_rfc3339(&event.timestamp).unwrap().get() / 1_000_000_000
}

fn number(event: &AuditEvent) -> i64 {
    AuditEvent::sequence_of(&event.id).unwrap()
}

/// Walks over events that begin anywhere.
fn walk(events: &[AuditEvent], keys: &impl Fn(&str, &str, &str) -> SignatureCheck) -> Summary {
    let mut walker = if number(&events[0]) == 1 {
        ChainWalker::from_start()
    } else {
        ChainWalker::from_checkpoint()
    };
    for event in events {
        walker.feed(event, keys).unwrap();
    }
    walker.finish().unwrap()
}

fn dropped(events: &[AuditEvent]) -> Vec<DroppedSegment> {
    events.iter().filter_map(DroppedSegment::from_event).collect()
}

/// Appends a few events a day, and lets so many days pass.
async fn days(harness: &Harness, count: usize) {
    for _ in 0..count {
        fill(harness, 3, "t").await;
        harness.clock.advance(DAY);
    }
    housekeeping::prune(&harness.state).await;
}

/// Lets all go that is due: one each five minutes, and none in the first hour.
async fn drop_all(harness: &Harness) {
    harness.clock.advance(3600);
    for _ in 0..12 {
        harness.state.retention.apply().await;
        harness.clock.advance(300);
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

fn read(file: &Path) -> Vec<AuditEvent> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn exported_and_kept_events_are_one_chain() {
    let harness = Harness::with(EXPORTED).await;
    let export = harness.folder.path().join("export");
    std::fs::create_dir(&export).unwrap();
    days(&harness, 6).await;
    drop_all(&harness).await;
    let rest = kept(&harness).await;
    let told = dropped(&rest);
    assert!(told.len() >= 3, "{told:?}");
    let mut whole: Vec<AuditEvent> = Vec::new();
    for segment in &told {
        let file = segment.exported.as_ref().unwrap();
        assert_eq!(segment.rule, DropRule::Age);
        let path = export.join(&file.name);
        let content = std::fs::read(&path).unwrap();
        assert_eq!(lower_hex(Sha256::digest(&content)), file.sha256);
        let events = read(&path);
        let (first, last) = (events.first().unwrap(), events.last().unwrap());
        assert_eq!((number(first), number(last)), (segment.first, segment.last));
        assert_eq!((&first.hash, &last.hash), (&segment.first_hash, &segment.last_hash));
        whole.extend(events);
    }
    assert_eq!(told.last().unwrap().last + 1, number(&rest[0]));
    let keys = keys(&harness).await;
    assert_eq!(walk(&rest, &keys).events, i64::try_from(rest.len()).unwrap());
    whole.extend(rest);
    assert_eq!(walk(&whole, &keys).sequence, number(whole.last().unwrap()));
    let newer = files(&export);
    let parts = newer
        .iter()
        .filter(|file| file.extension().is_some_and(|end| end == "part"));
    assert_eq!(parts.count(), 0);
}

#[tokio::test]
async fn numbers_go_on_and_totals_count_what_is_kept() {
    let harness = Harness::with(DAYS).await;
    fill(&harness, 3, "t").await;
    let mark = harness.state.store.compare(None).await.unwrap().mark;
    days(&harness, 5).await;
    drop_all(&harness).await;
    let rest = kept(&harness).await;
    let (first, last) = (number(&rest[0]), number(rest.last().unwrap()));
    let total = i64::try_from(rest.len()).unwrap();
    assert!(first > 3 && last == first + total - 1);
    let health = harness.get("/v1/health").await.ok();
    assert_eq!(health["audit_events_count"], total);
    for filter in [
        EventFilter {
            cursor: Some(0),
            limit: 2,
            ..EventFilter::default()
        },
        EventFilter {
            cursor: Some(first - 2),
            limit: 2,
            ..EventFilter::default()
        },
        EventFilter {
            limit: 2,
            ..EventFilter::default()
        },
    ] {
        let page = page(&harness, filter).await;
        assert_eq!((page.total, page.last), (total, Some(first + 1)));
    }
    let filter = EventFilter {
        offset: 2,
        limit: 1,
        ..EventFilter::default()
    };
    assert_eq!(page(&harness, filter).await.last, Some(first + 2));
    // A mark of an event that is gone can't be compared, and is no restore.
    assert!(mark.sequence < first);
    let compared = harness.state.store.compare(Some(&mark.text())).await.unwrap();
    assert!(!compared.restored);
    let epoch = harness.state.store.epoch();
    let harness = harness.restart(&[]).await;
    assert_eq!(harness.state.store.epoch(), epoch);
    let again = kept(&harness).await;
    assert_eq!((number(&again[0]), number(again.last().unwrap())), (first, last));
    fill(&harness, 1, "t").await;
    assert!(number(trail(&harness).await.last().unwrap()) > last);
}

#[tokio::test]
async fn a_crash_between_export_and_drop_exports_the_same_once_more() {
    let harness = Harness::with(&[("AA_AUDIT_EXPORT_DIR", "{folder}/export")]).await;
    let export = harness.folder.path().join("export");
    std::fs::create_dir(&export).unwrap();
    let harness = harness.restart(&[("AA_AUDIT_RETENTION_DAYS", "1000")]).await;
    days(&harness, 3).await;
    harness.state.retention.apply().await;
    let before = files(&export);
    assert!(before.len() >= 2, "{before:?}");
    let mut setup = harness.stop().await;
    let forget = "UPDATE audit_segments SET exported_at = NULL, file = NULL, sha256 = NULL";
    assert_eq!(stores::change(setup.folder.path(), forget), before.len());
    // A crash may also leave a part, and somebody may have put another file in the place of one.
    std::fs::write(export.join("left.part"), "x").unwrap();
    std::fs::write(&before[1], "something else\n").unwrap();
    setup.set(&[("AA_AUDIT_RETENTION_DAYS", "1")]);
    let harness = Harness::start(setup).await;
    drop_all(&harness).await;
    let told = dropped(&kept(&harness).await);
    assert_eq!(told.len(), 1, "the second is not overwritten, and stays: {told:?}");
    assert!(before[0].ends_with(&told[0].exported.as_ref().unwrap().name));
    assert_eq!(std::fs::read_to_string(&before[1]).unwrap(), "something else\n");
    assert!(harness.state.metrics.audit_export_failures.get() > 0);
    std::fs::remove_file(&before[1]).unwrap();
    drop_all(&harness).await;
    assert!(dropped(&kept(&harness).await).len() >= 2);
}

#[tokio::test]
async fn a_trail_that_was_never_cut_is_cut_where_it_is_signed() {
    let harness = Harness::new().await;
    fill(&harness, 26_000, &"t".repeat(600)).await;
    let whole = kept(&harness).await;
    let mut setup = harness.stop().await;
    let changed = stores::change(setup.folder.path(), "DELETE FROM audit_segments");
    assert_eq!(changed, 1, "16 MiB each");
    setup.set(&[("AA_AUDIT_MAX_BYTES", "16777216")]);
    let harness = Harness::start(setup).await;
    harness.state.retention.apply().await;
    let rest = kept(&harness).await;
    let told = dropped(&rest);
    assert!(told.len() > 2 && told.iter().all(|segment| segment.rule == DropRule::Bytes));
    for segment in &told {
        let at = |number: i64| &whole[usize::try_from(number - 1).unwrap()].hash;
        assert_eq!(
            (&segment.first_hash, &segment.last_hash),
            (at(segment.first), at(segment.last))
        );
    }
    walk(&rest, &keys(&harness).await);
    let bytes = harness.state.metrics.audit_bytes.get();
    assert!(bytes < 16 << 20 && bytes > 12 << 20, "{bytes}");
    assert_eq!(
        harness
            .state
            .metrics
            .audit_segments_dropped
            .with_label_values(&["false"])
            .get(),
        u64::try_from(told.len()).unwrap()
    );
}

#[tokio::test]
async fn short_events_count_as_what_they_take() {
    let harness = Harness::with(&[("AA_AUDIT_MAX_BYTES", "16777216")]).await;
    fill(&harness, 8_000, &"t".repeat(200)).await;
    let bytes = |harness: &Harness| harness.state.metrics.audit_bytes.get();
    let whole = bytes(&harness);
    housekeeping::shorten(&harness.state, 0).await;
    let short = bytes(&harness);
    assert!(short * 3 < whole, "{whole} bytes, then {short}");
    let harness = harness.restart(&[]).await;
    let counted_anew = bytes(&harness);
    assert!(
        (short - counted_anew).abs() * 50 < short,
        "{short} bytes, then {counted_anew}"
    );
    harness.state.retention.apply().await;
    assert!(
        dropped(&kept(&harness).await).is_empty(),
        "short events are within the bound"
    );
    walk(&kept(&harness).await, &keys(&harness).await);
}
