//! Verification of the audit chain: event by event, whatever they come from.

pub(crate) mod command;
mod dropped;
mod expected;
mod file;
mod learned;
mod online;
mod progress;

use agentwrit_protocol::audit::{
    AuditEvent, Break, BreakKind, ChainWalker, Checkpoint, CheckpointKeys, DroppedSegment, Step,
};
use serde::Serialize;
use serde_json::Value;

pub(crate) use dropped::{Dropped, drop_summary};
pub(crate) use expected::Expected;
use learned::LearnedKeys;

pub(crate) use file::{EventFiles, Place};
pub(crate) use online::{Start, Trail};
pub(crate) use progress::Progress;

/// The first thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Broken {
    /// Id of the event that it is wrong with.
    pub(crate) event: String,
    pub(crate) problem: String,
}

impl From<Break> for Broken {
    fn from(found: Break) -> Self {
        Self {
            event: AuditEvent::id_for(found.sequence),
            problem: found.kind.to_string(),
        }
    }
}

/// What the verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    /// Whether everything fits.
    pub(crate) intact: bool,
    /// Events that fit.
    pub(crate) events: i64,
    /// Id of the first event.
    pub(crate) first: Option<String>,
    /// Id of the last event that fits.
    pub(crate) last: Option<String>,
    /// Number of that event: for `--expect-count`.
    pub(crate) count: i64,
    /// Its hash: for `--expect-head`.
    pub(crate) head: String,
    /// Id of the last checkpoint whose signature was checked.
    pub(crate) checkpoint: Option<String>,
    /// When it was signed.
    pub(crate) signed_at: Option<String>,
    /// Events after it, which no signature covers yet.
    pub(crate) unsigned: i64,
    /// Id of the last event that was dropped before the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dropped_until: Option<String>,
    /// Those of them that the events name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) dropped: Vec<Dropped>,
    /// Whether there were keys to check signatures with.
    pub(crate) signatures_checked: bool,
    /// The first thing that is wrong.
    pub(crate) broken: Option<Broken>,
}

/// A verification on its way.
pub(crate) struct Verification<'a> {
    walker: ChainWalker,
    keys: &'a dyn CheckpointKeys,
    learned: LearnedKeys,
    expected: Expected,
    /// The same before any event was met.
    noted: Expected,
    /// Number of the event that must be the last one that was dropped; 0 when there is none.
    dropped_until: i64,
    /// The first checkpoint since the last one of a known key.
    unproven: Option<Checkpoint>,
    verdict: Verdict,
}

impl<'a> Verification<'a> {
    /// From the first event that there is, of this number. When that isn't the first of all, the trail has to say that
    /// those before it were dropped.
    pub(crate) fn from_first(first: i64, keys: &'a dyn CheckpointKeys, expected: Expected) -> Self {
        let mut verification = Self::from(first > 1, keys, expected);
        verification.dropped_until = first.saturating_sub(1).max(0);
        verification
    }

    /// From the first event of the trail; or from the event of a checkpoint, whose signature covers the events before it.
    pub(crate) fn from(checkpoint: bool, keys: &'a dyn CheckpointKeys, expected: Expected) -> Self {
        let walker = if checkpoint {
            ChainWalker::from_checkpoint()
        } else {
            ChainWalker::from_start()
        };
        Self {
            walker,
            keys,
            learned: LearnedKeys::default(),
            noted: expected.clone(),
            expected,
            dropped_until: 0,
            unproven: None,
            verdict: Verdict {
                signatures_checked: true,
                ..Verdict::default()
            },
        }
    }

    /// The same once more, from the first event that is left when this is its number.
    pub(crate) fn again_from(self, first: i64) -> Self {
        Self::from_first(first, self.keys, self.noted)
    }

    /// For use without keys: hashes are checked, signatures aren't.
    pub(crate) fn without_signatures(mut self) -> Self {
        self.verdict.signatures_checked = false;
        self
    }

    /// Number of the last event that fits.
    pub(crate) fn count(&self) -> i64 {
        self.verdict.count
    }

    /// The next event's JSON text.
    ///
    /// Fails with the first thing that is wrong; the verification is over then.
    pub(crate) fn feed(&mut self, text: &str) -> Result<(), Broken> {
        let event = read(text).map_err(|kind| self.here(&kind))?;
        let step = self.walker.feed(&event, &self.learned.beside(self.keys))?;
        self.learned.meet(&event, step);
        // The walker has checked that it has one.
        let count = AuditEvent::sequence_of(&event.id).unwrap_or_default();
        if self.verdict.events == 0 {
            self.expected.meet(count.saturating_sub(1), &event.prev_hash)?;
        }
        self.expected.meet(count, &event.hash)?;
        let verdict = &mut self.verdict;
        verdict
            .dropped
            .extend(DroppedSegment::from_event(&event).map(Dropped::from));
        match step {
            Step::Event => verdict.unsigned += 1,
            Step::Signed => {
                verdict.checkpoint = Some(event.id.clone());
                verdict.signed_at = Some(event.timestamp.clone());
                verdict.unsigned = 0;
                // It covers all events before it.
                self.unproven = None;
            }
            Step::UnknownKey => {
                verdict.unsigned += 1;
                self.unproven = self.unproven.take().or(Checkpoint::from_event(&event).ok());
            }
        }
        verdict.first.get_or_insert_with(|| event.id.clone());
        verdict.last = Some(event.id);
        verdict.head = event.hash;
        verdict.count = count;
        verdict.events += 1;
        Ok(())
    }

    fn here(&self, kind: &BreakKind) -> Broken {
        Broken {
            event: AuditEvent::id_for(self.verdict.count.saturating_add(1)),
            problem: kind.to_string(),
        }
    }

    /// The end of the trail.
    pub(crate) fn finish(mut self) -> Verdict {
        if let Some(broken) = self.expected.unmet(self.verdict.count) {
            return self.end(broken);
        }
        let (until, number) = (AuditEvent::id_for(self.dropped_until), self.dropped_until);
        // Others were dropped since, and are among the files that were read.
        self.verdict
            .dropped
            .retain(|segment| AuditEvent::sequence_of(&segment.last).is_some_and(|last| last <= number));
        if self.dropped_until > 0 {
            if self.verdict.dropped.last().is_none_or(|last| last.last != until) {
                let broken = Broken {
                    event: until,
                    problem:
                        "it and all before it are missing, and no later audit_segment_dropped says that they were \
                              dropped up to here"
                            .to_owned(),
                };
                return self.end(broken);
            }
            self.verdict.dropped_until = Some(until);
        }
        if let (Some(unproven), true) = (&self.unproven, self.verdict.signatures_checked) {
            let broken = Broken {
                event: AuditEvent::id_for(unproven.sequence.saturating_add(1)),
                problem: format!(
                    "it is signed by key {}, which isn't known, and no later checkpoint covers it; an older key is \
                     given with --jwks",
                    unproven.kid
                ),
            };
            return self.end(broken);
        }
        self.verdict.intact = true;
        self.verdict
    }

    /// The end of the verification at something wrong.
    pub(crate) fn end(mut self, broken: Broken) -> Verdict {
        self.verdict.broken = Some(broken);
        self.verdict
    }
}

/// An event from its text, which must hold nothing that isn't hashed. Order and escapes are free: tools change them.
fn read(text: &str) -> Result<AuditEvent, BreakKind> {
    let unreadable = |error: serde_json::Error| BreakKind::Unreadable(error.to_string());
    // The type refuses members that come twice, the value shows members that the type doesn't know.
    let event: AuditEvent = serde_json::from_str(text).map_err(unreadable)?;
    let value: Value = serde_json::from_str(text).map_err(unreadable)?;
    let own = serde_json::to_value(&event).map_err(unreadable)?;
    if own == value {
        Ok(event)
    } else {
        Err(BreakKind::Spelling)
    }
}

#[cfg(test)]
mod tests;
