//! How a store that was put back from a copy is noticed.

use agentwrit_protocol::StoreMark;
use agentwrit_store::Remembered;

/// Why a store counts as restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// It ends before the mark.
    LowerSequence,
    /// At the mark's number it has another event.
    OtherHistory,
    /// The mark is of an epoch that it neither has nor had.
    UnknownEpoch,
    /// The mark can't be read. It may be of any epoch, so it counts as one of an unknown one: to take it for none
    /// would let a broken mark hide a restore, and the price of the error is that agents register again.
    UnreadableMark,
    /// A person said so.
    Declared,
}

impl Rule {
    /// The word for metrics and the trail.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LowerSequence => "lower_sequence",
            Self::OtherHistory => "other_history",
            Self::UnknownEpoch => "unknown_epoch",
            Self::UnreadableMark => "unreadable_mark",
            Self::Declared => "declared",
        }
    }
}

/// Who says that a store is restored, and by what.
pub struct Finding {
    /// By which rule.
    pub rule: Rule,
    /// What is remembered of the store.
    pub remembered: Remembered,
    /// Where the mark is, for people.
    pub by: &'static str,
}

impl Finding {
    /// The detail of the event that tells of it.
    pub fn describe(&self, present: &StoreMark, epoch: &str) -> String {
        let text = |mark: &StoreMark| format!("epoch={} sequence={} head={}", mark.epoch, mark.sequence, mark.head);
        let remembered = match &self.remembered {
            Remembered::Nothing => "none".to_owned(),
            Remembered::Mark(mark) => text(mark),
            Remembered::Unreadable(why) => agentwrit_protocol::excerpt::excerpt(why),
        };
        format!(
            "rule={} by={}; mark: {remembered}; store: {}; new epoch={epoch}",
            self.rule.as_str(),
            self.by,
            text(present)
        )
    }
}

/// Which rule makes a store with the mark `present` a restored one, given what is remembered of it, its former epochs,
/// and the hash of its event with the mark's number; of an event that the trail no longer has nothing can be compared.
pub fn judge(
    present: &StoreMark,
    remembered: &Remembered,
    former_epochs: &[String],
    hash_at_mark: Option<&str>,
) -> Option<Rule> {
    let mark = match remembered {
        Remembered::Nothing => return None,
        Remembered::Unreadable(_) => return Some(Rule::UnreadableMark),
        Remembered::Mark(mark) => mark,
    };
    if mark.epoch != present.epoch {
        return (!former_epochs.contains(&mark.epoch)).then_some(Rule::UnknownEpoch);
    }
    if mark.sequence > present.sequence {
        return Some(Rule::LowerSequence);
    }
    hash_at_mark
        .is_some_and(|hash| hash != mark.head)
        .then_some(Rule::OtherHistory)
}
