//! Whether the oldest segment goes.

use agentwrit_protocol::audit::DropRule;

use crate::store::{Retention, Segment, WhenFull};

/// What happens to the oldest segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Stay,
    Drop(DropRule),
    /// It stays, and nothing is done but what takes authority away.
    Refuse,
}

/// Decides over the oldest segment, when all sealed ones take `sealed` bytes and both clocks have passed `passed`, Unix
/// milliseconds. `starved`: the disk is down to its reserve, and the store's file has no free room of its own.
pub(super) fn decide(retention: &Retention, oldest: &Segment, sealed: i64, passed: i64, starved: bool) -> Decision {
    let may_go = retention.export.is_none() || oldest.exported.is_some();
    if let (true, Some(rule)) = (may_go, oldest.rule(retention, sealed, passed)) {
        return Decision::Drop(rule);
    }
    match retention.full {
        WhenFull::Drop if starved => Decision::Drop(DropRule::Full),
        WhenFull::Refuse if starved && !may_go => Decision::Refuse,
        WhenFull::Drop | WhenFull::Refuse => Decision::Stay,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use agentwrit_protocol::audit::ExportedFile;

    use super::*;

    fn oldest(exported: bool) -> Segment {
        Segment {
            first: 1,
            last: 9,
            bytes: 7,
            first_at: 0,
            last_at: 0,
            first_hash: String::new(),
            head: String::new(),
            exported: exported.then(|| ExportedFile {
                name: "f".to_owned(),
                sha256: "s".to_owned(),
            }),
        }
    }

    #[test]
    fn what_is_due_goes_once_exported_and_a_full_disk_decides_otherwise() {
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
            let found = decide(&retention, &oldest(exported), 0, passed, starved);
            assert_eq!(found, decision, "{full:?} {export} {exported} {passed} {starved}");
        }
    }
}
