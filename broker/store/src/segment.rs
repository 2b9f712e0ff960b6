//! The audit trail in segments: where it is cut, and how long its parts are kept.

use std::path::PathBuf;
use std::time::Duration;

use agentwrit_protocol::audit::{DropRule, ExportedFile};
use agentwrit_protocol::{UnixMillis, UnixNanos};
use async_trait::async_trait;

use super::Result;

const MIB: i64 = 1024 * 1024;
const DAY: Duration = Duration::from_hours(24);
/// Segments that the bound is divided into.
const SHARES: i64 = 16;
const SMALLEST: i64 = MIB;
const LARGEST: i64 = 64 * MIB;
/// Bytes of a segment when there is no bound.
const UNBOUND: i64 = 16 * MIB;
/// The smallest bound: room for sixteen of the smallest segments.
pub const LEAST_BOUND: i64 = SHARES * SMALLEST;

/// What happens when segments can't be exported and the disk is down to its reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest segments are dropped, exported or not.
    Drop,
    /// Nothing is dropped, and nothing is done but what takes authority away.
    Refuse,
}

/// How long the trail is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Days that an event is kept; 0 = for ever.
    pub days: i64,
    /// Bytes that the trail may take; 0 = no bound.
    pub max_bytes: i64,
    /// Folder that segments are exported to before they are dropped.
    pub export: Option<PathBuf>,
    /// What happens when that fails for too long.
    pub full: WhenFull,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            days: 0,
            max_bytes: 0,
            export: None,
            full: WhenFull::Refuse,
        }
    }
}

/// When the segment that grows is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// At so many bytes.
    pub bytes: i64,
    /// At this age of its first event.
    pub age: Option<Duration>,
}

impl Retention {
    /// The moment from which on events are kept; `None` without a bound of days.
    pub fn kept_since(&self, passed: UnixMillis) -> Option<UnixNanos> {
        let days = u32::try_from(self.days).unwrap_or(u32::MAX);
        (self.days > 0).then(|| passed.start() - DAY.saturating_mul(days))
    }

    /// When the segment that grows is sealed.
    pub fn cut(&self) -> Cut {
        let share = self.max_bytes / SHARES;
        Cut {
            bytes: if self.max_bytes > 0 {
                share.clamp(SMALLEST, LARGEST)
            } else {
                UNBOUND
            },
            age: (self.days > 0).then_some(DAY),
        }
    }
}

/// A sealed segment that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Number of its first event.
    pub first: i64,
    /// Number of its last event.
    pub last: i64,
    /// What its events take in the file, about.
    pub bytes: i64,
    /// When its first event was.
    pub first_at: UnixNanos,
    /// When its latest event was.
    pub last_at: UnixNanos,
    /// `hash` of its first event.
    pub first_hash: String,
    /// `hash` of its last event.
    pub head: String,
    /// Where it was exported to.
    pub exported: Option<ExportedFile>,
}

impl Segment {
    /// Whether its latest event is older than the days; `passed` is what both clocks have passed.
    pub fn is_aged(&self, retention: &Retention, passed: UnixMillis) -> bool {
        retention.kept_since(passed).is_some_and(|since| self.last_at < since)
    }

    /// The rule by which it goes when it is the oldest one and the sealed segments take `sealed` bytes. By age nothing
    /// goes without `passed`.
    pub fn rule(&self, retention: &Retention, sealed: i64, passed: Option<UnixMillis>) -> Option<DropRule> {
        if passed.is_some_and(|passed| self.is_aged(retention, passed)) {
            return Some(DropRule::Age);
        }
        // Room for the segment that grows is set aside, so that the bound holds while it does.
        let room = retention.max_bytes.saturating_sub(retention.cut().bytes);
        (retention.max_bytes > 0 && sealed > room).then_some(DropRule::Bytes)
    }
}

/// Repository of the trail's segments.
#[async_trait]
pub trait Segments {
    /// The oldest sealed segment that is kept. Events that are dated ahead of both clocks count as from before what follows
    /// them.
    async fn oldest_segment(&mut self) -> Result<Option<Segment>>;
    /// The oldest one that isn't exported.
    async fn unexported_segment(&mut self) -> Result<Option<Segment>>;
    /// How many segments have only events from before this moment.
    async fn segments_before(&mut self, moment: UnixNanos) -> Result<i64>;
    /// What all sealed segments take in the file, about.
    async fn sealed_bytes(&mut self) -> Result<i64>;
    /// Notes that a segment was exported.
    async fn note_export(&mut self, first: i64, file: &ExportedFile) -> Result<()>;
    /// Takes the oldest segment out of the trail. Its rows are out of sight with the commit and swept later.
    async fn drop_segment(&mut self, segment: &Segment) -> Result<()>;
    /// Whether rows of dropped segments are left.
    async fn any_dropped(&mut self) -> Result<bool>;
    /// Removes some of the rows of dropped segments.
    async fn sweep_dropped(&mut self) -> Result<()>;
    /// Bytes of the store's file that new rows can use before it grows.
    async fn reusable_bytes(&mut self) -> Result<i64>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> Segment {
        Segment {
            first: 1,
            last: 9,
            bytes: 7,
            first_at: UnixNanos::new(0),
            last_at: UnixNanos::new(86_400 * 1_000_000_000),
            first_hash: String::new(),
            head: String::new(),
            exported: None,
        }
    }

    #[test]
    fn a_segment_is_a_share_of_the_bound() {
        for (max_bytes, bytes) in [(0, 16), (16, 1), (20, 1), (64, 4), (1024, 64), (4096, 64)] {
            let max_bytes = max_bytes * MIB;
            let retention = Retention {
                max_bytes,
                ..Retention::default()
            };
            let cut = retention.cut();
            assert!(cut.bytes >= bytes * MIB && cut.bytes < (bytes + 1) * MIB, "{max_bytes}");
            assert_eq!(cut.age, None);
        }
        let retention = Retention {
            days: 90,
            ..Retention::default()
        };
        assert_eq!(retention.cut().age, Some(DAY));
    }

    #[test]
    fn a_segment_goes_by_its_latest_event_or_by_the_bytes_of_all() {
        let retention = Retention {
            days: 2,
            max_bytes: 64 * MIB,
            ..Retention::default()
        };
        let none = Retention::default();
        let day = 86_400_000;
        for (sealed, passed, rule) in [
            (0, 3 * day, None),
            (0, 3 * day + 1, Some(DropRule::Age)),
            (60 * MIB, 0, None),
            (60 * MIB + 1, 0, Some(DropRule::Bytes)),
            (60 * MIB + 1, 3 * day + 1, Some(DropRule::Age)),
        ] {
            assert_eq!(
                segment().rule(&retention, sealed, Some(UnixMillis::new(passed))),
                rule,
                "{sealed} {passed}"
            );
            assert_eq!(segment().rule(&none, sealed, Some(UnixMillis::new(passed))), None);
            let by_bytes = rule.filter(|_| sealed > 60 * MIB).map(|_| DropRule::Bytes);
            assert_eq!(segment().rule(&retention, sealed, None), by_bytes, "{sealed}");
        }
    }
}
