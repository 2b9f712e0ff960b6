//! What must hold all the time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentwrit_broker::broker::AppState;
use agentwrit_protocol::Clock;
use agentwrit_protocol::audit::{AuditEvent, ChainWalker, DroppedSegment, Step};
use agentwrit_protocol::system::SystemClock;
use agentwrit_store::EventFilter;
use agentwrit_tokens::key_set::KeySet;
use serde_json::value::RawValue;

use super::MIB;

/// What may be taken beyond the bound and a tenth of it.
const RESERVE: u64 = 32 * MIB;
/// What the process may grow by after its first burst, when all caches are full.
const GROWTH: u64 = 24 * MIB;
const PAGE: i64 = 1000;
/// Each line of progress is after so many events.
const REPORT_EVERY: i64 = 100_000;

pub struct Watch {
    store: PathBuf,
    /// Bytes that file and WAL may take.
    most: u64,
    keys: Arc<KeySet>,
    /// Over every event as it came, across all drops.
    walker: ChainWalker,
    drops: usize,
    largest: u64,
    /// Resident bytes after the first burst.
    resident: Option<u64>,
    /// Tells how long it took, for people.
    time: SystemClock,
    begun: Duration,
    reported: i64,
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

async fn page(broker: &AppState, after: i64, limit: i64) -> (Vec<Box<RawValue>>, Option<i64>) {
    let filter = EventFilter {
        cursor: Some(after),
        limit,
        ..EventFilter::default()
    };
    let page = broker.store.events(filter).await.unwrap();
    (serde_json::from_str(&page.events).unwrap(), page.last)
}

impl Watch {
    /// `beside`: bytes that the tables beside the trail may take.
    pub fn new(broker: &AppState, folder: &Path, bound: u64, beside: u64) -> Self {
        let time = SystemClock;
        Self {
            begun: time.monotonic(),
            time,
            store: folder.join("data.db"),
            most: bound + bound / 10 + RESERVE + beside,
            keys: Arc::clone(&broker.tokens.keys),
            walker: ChainWalker::from_start(),
            drops: 0,
            largest: 0,
            resident: None,
            reported: 0,
        }
    }

    pub fn events(&self) -> i64 {
        self.walker.sequence()
    }

    pub fn drops(&self) -> usize {
        self.drops
    }

    /// The file and its WAL take no more than they may.
    pub fn size(&mut self) {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        let taken = size(&self.store) + size(&self.store.with_extension("db-wal"));
        self.largest = self.largest.max(taken);
        let most = self.most;
        assert!(
            taken <= most,
            "{} MiB of {} MiB after {} events",
            taken / MIB,
            most / MIB,
            self.events()
        );
    }

    /// The process takes about what it took after its first burst.
    pub fn memory(&mut self) {
        let now = resident();
        let first = *self.resident.get_or_insert(now);
        assert!(
            now <= first + GROWTH,
            "{} MiB, after the first burst {} MiB",
            now / MIB,
            first / MIB
        );
    }

    /// Every new event continues the chain; after a drop the trail begins where the trail says, with a signature.
    pub async fn trail(&mut self, broker: &AppState) {
        let before = self.drops;
        let mut last_drop = None;
        loop {
            let (events, last) = page(broker, self.walker.sequence(), PAGE).await;
            for event in &events {
                self.walker.feed_json(event.get(), self.keys.as_ref()).unwrap();
                if event.get().contains("\"audit_segment_dropped\"") {
                    let event: AuditEvent = serde_json::from_str(event.get()).unwrap();
                    last_drop = DroppedSegment::from_event(&event);
                    assert!(last_drop.is_some(), "{event:?}");
                    self.drops += 1;
                }
            }
            if last.is_none() {
                break;
            }
        }
        if let Some(dropped) = last_drop {
            let (events, _) = page(broker, 0, 20).await;
            let mut walker = ChainWalker::from_checkpoint();
            let first = walker.feed_json(events[0].get(), self.keys.as_ref()).unwrap();
            assert_eq!((first, walker.sequence()), (Step::Signed, dropped.last + 1));
            let first: AuditEvent = serde_json::from_str(events[0].get()).unwrap();
            assert_eq!(first.prev_hash, dropped.last_hash);
            for event in &events[1..] {
                walker.feed_json(event.get(), self.keys.as_ref()).unwrap();
            }
            assert!(self.drops > before);
        }
        if self.events() - self.reported >= REPORT_EVERY {
            self.reported = self.events();
            self.report("so far");
        }
    }

    /// All that is kept verifies, from its first event to its last.
    pub async fn whole_trail(&self, broker: &AppState) {
        let (mut walker, mut after) = (ChainWalker::from_checkpoint(), 0);
        if self.drops == 0 {
            walker = ChainWalker::from_start();
        }
        loop {
            let (events, last) = page(broker, after, PAGE).await;
            for event in &events {
                walker.feed_json(event.get(), self.keys.as_ref()).unwrap();
            }
            match last {
                Some(last) => after = last,
                None => break,
            }
        }
        let done = walker.finish().unwrap();
        assert_eq!(
            (done.sequence, done.events),
            (self.events(), broker.store.event_count())
        );
    }

    pub fn report(&self, what: &str) {
        println!(
            "soak: {what}: {} events, {} drops, file at most {} MiB of {} MiB, {} MiB resident, {} s",
            self.events(),
            self.drops,
            self.largest / MIB,
            self.most / MIB,
            resident() / MIB,
            self.time.monotonic().saturating_sub(self.begun).as_secs()
        );
    }
}
