//! Whether the oldest segment goes.

use agentwrit_protocol::UnixMillis;
use agentwrit_protocol::audit::DropRule;

use agentwrit_store::{Retention, Segment, WhenFull};

/// What happens to the oldest segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Stay,
    /// It is old enough, but others went by age a moment ago.
    Wait,
    Drop(DropRule),
    /// It stays, and nothing is done but what takes authority away.
    Refuse,
}

/// What it is decided by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances {
    /// Bytes that all sealed segments take.
    pub(super) sealed: i64,
    /// What both clocks have passed.
    pub(super) passed: UnixMillis,
    /// The disk is down to its reserve, and the store's file has no free room of its own.
    pub(super) starved: bool,
    /// Whether something may go by age now. Where room is needed it may at any time.
    pub(super) paced: bool,
    /// An export is on its way that may still succeed in time.
    pub(super) exporting: bool,
}

/// Decides over the oldest segment.
pub(super) fn decide(retention: &Retention, oldest: &Segment, now: &Circumstances) -> Decision {
    let may_go = retention.export.is_none() || oldest.exported.is_some();
    let passed = (now.paced || now.starved).then_some(now.passed);
    if let (true, Some(rule)) = (may_go, oldest.rule(retention, now.sealed, passed)) {
        return Decision::Drop(rule);
    }
    if may_go && oldest.is_aged(retention, now.passed) {
        return Decision::Wait;
    }
    if !now.starved || (!may_go && now.exporting) {
        return Decision::Stay;
    }
    match retention.full {
        WhenFull::Drop => Decision::Drop(DropRule::Full),
        WhenFull::Refuse if !may_go => Decision::Refuse,
        WhenFull::Refuse => Decision::Stay,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use agentwrit_protocol::UnixNanos;
    use agentwrit_protocol::audit::ExportedFile;

    use super::*;

    fn oldest(exported: bool) -> Segment {
        Segment {
            first: 1,
            last: 9,
            bytes: 7,
            first_at: UnixNanos::new(0),
            last_at: UnixNanos::new(0),
            first_hash: String::new(),
            head: String::new(),
            exported: exported.then(|| ExportedFile {
                name: "f".to_owned(),
                sha256: "s".to_owned(),
            }),
        }
    }

    #[test]
    fn age_export_and_a_full_disk_decide_when_events_are_dropped() {
        let day = 86_400_000;
        for (full, export, exported, passed, starved, decision) in [
            (WhenFull::Drop, false, false, day, false, Decision::Stay),
            (
                WhenFull::Drop,
                false,
                false,
                day + 1,
                false,
                Decision::Drop(DropRule::Age),
            ),
            (WhenFull::Drop, true, false, day + 1, false, Decision::Stay),
            (
                WhenFull::Drop,
                true,
                true,
                day + 1,
                false,
                Decision::Drop(DropRule::Age),
            ),
            (WhenFull::Drop, true, true, day + 1, true, Decision::Drop(DropRule::Age)),
            (
                WhenFull::Drop,
                true,
                false,
                day + 1,
                true,
                Decision::Drop(DropRule::Full),
            ),
            (WhenFull::Drop, false, false, 0, true, Decision::Drop(DropRule::Full)),
            (WhenFull::Refuse, false, false, 0, true, Decision::Stay),
            (WhenFull::Refuse, true, true, 0, true, Decision::Stay),
            (WhenFull::Refuse, true, false, 0, true, Decision::Refuse),
            (WhenFull::Refuse, true, false, day + 1, true, Decision::Refuse),
            (WhenFull::Refuse, true, false, day + 1, false, Decision::Stay),
            (
                WhenFull::Refuse,
                true,
                true,
                day + 1,
                true,
                Decision::Drop(DropRule::Age),
            ),
        ] {
            let retention = Retention {
                days: 1,
                max_bytes: 0,
                export: export.then(|| PathBuf::from("/audit")),
                full,
            };
            let now = Circumstances {
                sealed: 0,
                passed: UnixMillis::new(passed),
                starved,
                paced: true,
                exporting: false,
            };
            let found = decide(&retention, &oldest(exported), &now);
            assert_eq!(found, decision, "{full:?} {export} {exported} {passed} {starved}");
            let waits = export && !exported && starved;
            let wanted = if waits { Decision::Stay } else { decision };
            let paced = Circumstances { paced: false, ..now };
            let aged = decision == Decision::Drop(DropRule::Age);
            let later = if aged && !starved { Decision::Wait } else { decision };
            assert_eq!(decide(&retention, &oldest(exported), &paced), later, "paced");
            let now = Circumstances { exporting: true, ..now };
            assert_eq!(decide(&retention, &oldest(exported), &now), wanted, "exporting");
        }
    }
}
