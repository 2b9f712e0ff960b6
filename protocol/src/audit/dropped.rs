//! What the trail says of a segment that is no longer in it.
//!
//! The detail of an `audit_segment_dropped` event is
//! `first=<id> last=<id> first_hash=<hash> last_hash=<hash> rule=<rule> exported=<file> sha256=<hash of the file>`, or
//! `… exported=no`. The event that is kept right after `last` is a checkpoint that covers it.

use super::{AuditEvent, EventType};

/// Why a segment was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropRule {
    /// Its last event was older than the trail is kept.
    Age,
    /// The trail had reached its bound.
    Bytes,
    /// The disk was down to its reserve.
    Full,
}

impl DropRule {
    const ALL: [Self; 3] = [Self::Age, Self::Bytes, Self::Full];

    /// The rule in the detail.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Bytes => "bytes",
            Self::Full => "full",
        }
    }
}

/// The file that a segment was exported to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedFile {
    /// Its name, without a folder.
    pub name: String,
    /// Lower-hex SHA-256 of its content.
    pub sha256: String,
}

/// A segment that was dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedSegment {
    /// Number of its first event.
    pub first: i64,
    /// Number of its last event.
    pub last: i64,
    /// `hash` of its first event.
    pub first_hash: String,
    /// `hash` of its last event.
    pub last_hash: String,
    /// Why.
    pub rule: DropRule,
    /// Where it was exported to; `None` when its events are gone for good.
    pub exported: Option<ExportedFile>,
}

impl DroppedSegment {
    /// The detail of its event.
    pub fn detail(&self) -> String {
        let Self {
            first_hash, last_hash, ..
        } = self;
        let (first, last) = (AuditEvent::id_for(self.first), AuditEvent::id_for(self.last));
        let exported = match &self.exported {
            Some(file) => format!("{} sha256={}", file.name, file.sha256),
            None => "no".to_owned(),
        };
        let rule = self.rule.as_str();
        format!(
            "first={first} last={last} first_hash={first_hash} last_hash={last_hash} rule={rule} exported={exported}"
        )
    }

    /// Reads it from its event; `None` when the event is none, or its detail is spelt in another way.
    pub fn from_event(event: &AuditEvent) -> Option<Self> {
        if event.event_type != EventType::AuditSegmentDropped.as_str() {
            return None;
        }
        let dropped = Self::from_detail(&event.detail)?;
        (dropped.detail() == event.detail).then_some(dropped)
    }

    fn from_detail(detail: &str) -> Option<Self> {
        let mut rest = detail;
        let mut next = |name: &str| {
            let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
            rest = after;
            word.strip_prefix(name)?.strip_prefix('=')
        };
        let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let hash = |text: &str| (text.len() == 64 && is_hex(text)).then(|| text.to_owned());
        let (first, last) = (
            AuditEvent::sequence_of(next("first")?)?,
            AuditEvent::sequence_of(next("last")?)?,
        );
        let (first_hash, last_hash) = (hash(next("first_hash")?)?, hash(next("last_hash")?)?);
        let rule = next("rule")?;
        let rule = DropRule::ALL.into_iter().find(|known| known.as_str() == rule)?;
        let exported = match next("exported")? {
            "no" => None,
            name => Some(ExportedFile {
                name: name.to_owned(),
                sha256: hash(next("sha256")?)?,
            }),
        };
        (rest.is_empty() && first <= last).then_some(Self {
            first,
            last,
            first_hash,
            last_hash,
            rule,
            exported,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::GENESIS_HASH;

    fn segment(rule: DropRule, exported: bool) -> DroppedSegment {
        DroppedSegment {
            first: 1,
            last: 2000,
            first_hash: "a1".repeat(32),
            last_hash: "b2".repeat(32),
            rule,
            exported: exported.then(|| ExportedFile {
                name: "audit-0f0f-000001-002000.jsonl".to_owned(),
                sha256: "c3".repeat(32),
            }),
        }
    }

    fn event(detail: String) -> AuditEvent {
        let mut event = AuditEvent {
            event_type: "audit_segment_dropped".to_owned(),
            detail,
            ..AuditEvent::default()
        };
        event.seal(3000, GENESIS_HASH);
        event
    }

    #[test]
    fn a_dropped_segment_reads_back_from_its_event() {
        for rule in DropRule::ALL {
            for exported in [false, true] {
                let dropped = segment(rule, exported);
                assert_eq!(DroppedSegment::from_event(&event(dropped.detail())), Some(dropped));
            }
        }
    }

    #[test]
    fn other_events_and_other_spellings_are_none() {
        let good = segment(DropRule::Age, true).detail();
        let mut other = event(good.clone());
        other.event_type = "admin_auth".to_owned();
        assert_eq!(DroppedSegment::from_event(&other), None);
        for bad in [
            String::new(),
            good.replace("evt-000001", "1"),
            good.replace("evt-000001", "evt-002001"),
            good.replace("rule=age", "rule=whim"),
            good.replace("a1a1", "A1A1"),
            good.replace(" sha256", " md5"),
            good.replace("first_hash", "hash"),
            format!("{good} "),
            format!("{good} x=1"),
            format!("{} sha256={}", segment(DropRule::Age, false).detail(), "c3".repeat(32)),
        ] {
            assert_eq!(DroppedSegment::from_event(&event(bad.clone())), None, "{bad}");
        }
    }
}
