//! Segments that the trail says were dropped.

use agentwrit_protocol::audit::{AuditEvent, DroppedSegment};
use serde::Serialize;

/// A segment that was dropped, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Dropped {
    /// Id of its first event.
    pub(crate) first: String,
    /// Id of its last event.
    pub(crate) last: String,
    /// `age`, `bytes` or `full`.
    pub(crate) rule: &'static str,
    /// Name of the file that it was exported to before.
    pub(crate) exported: Option<String>,
    /// SHA-256 of that file.
    pub(crate) sha256: Option<String>,
}

impl From<DroppedSegment> for Dropped {
    fn from(segment: DroppedSegment) -> Self {
        let (exported, sha256) = segment.exported.map(|file| (file.name, file.sha256)).unzip();
        Self {
            first: AuditEvent::id_for(segment.first),
            last: AuditEvent::id_for(segment.last),
            rule: segment.rule.as_str(),
            exported,
            sha256,
        }
    }
}

/// What was dropped up to this event, in a line.
pub(crate) fn drop_summary(until: &str, dropped: &[Dropped]) -> String {
    let first = AuditEvent::id_for(1);
    let how = match dropped {
        [only] => match &only.exported {
            Some(file) => format!("exported as {file}"),
            None => "not exported".to_owned(),
        },
        several => {
            let exported = several.iter().filter(|segment| segment.exported.is_some()).count();
            format!(
                "of {} segments that the trail names {exported} were exported; --json names them",
                several.len()
            )
        }
    };
    format!("{first} to {until} ({how})")
}
