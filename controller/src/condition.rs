//! The condition `Ready`, computed as plain data.

use agentwrit_crds::CONDITION_READY;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use time::OffsetDateTime;

/// Why an object is ready or not; the closed set of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The broker enforces the present spec.
    Synced,
    /// Suspended, or its app is.
    Suspended,
    /// The `LaunchToken`'s app doesn't exist.
    AppNotFound,
    /// The `LaunchToken`'s app is being deleted, can't be read, or was refused by the broker.
    AppNotReady,
    /// Scopes that the app doesn't cover.
    ScopeExceedsCeiling,
    /// The broker can't be reached.
    BrokerUnavailable,
    /// The broker refused the policy.
    BrokerRefused,
    /// Being deleted, and the broker hasn't heard of it yet.
    Deleting,
}

impl Reason {
    /// The condition's reason.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Synced => "Synced",
            Self::Suspended => "Suspended",
            Self::AppNotFound => "AppNotFound",
            Self::AppNotReady => "AppNotReady",
            Self::ScopeExceedsCeiling => "ScopeExceedsCeiling",
            Self::BrokerUnavailable => "BrokerUnavailable",
            Self::BrokerRefused => "BrokerRefused",
            Self::Deleting => "Deleting",
        }
    }
}

/// What the condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Why; only `Synced` is ready.
    pub reason: Reason,
    /// Why, in a sentence.
    pub message: String,
}

impl Ready {
    /// A condition with this reason and sentence.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    /// Whether the status is True.
    pub fn is_true(&self) -> bool {
        self.reason == Reason::Synced
    }

    const fn status(&self) -> &'static str {
        match self.reason {
            Reason::Synced => "True",
            _ => "False",
        }
    }
}

/// The present `Ready` condition among `conditions`.
pub fn present(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == CONDITION_READY)
}

/// What has to change.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The condition to write.
    pub condition: Condition,
    /// Whether status or reason changed: worth an Event.
    pub flipped: bool,
}

/// What to write so that `conditions` say `ready` of `generation`; `None` when they do already. The transition time
/// moves only when the status does.
pub fn change(conditions: &[Condition], ready: &Ready, generation: Option<i64>, now: OffsetDateTime) -> Option<Change> {
    let before = present(conditions);
    let same_status = before.is_some_and(|c| c.status == ready.status());
    let same_reason = before.is_some_and(|c| c.reason == ready.reason.as_str());
    if same_status
        && same_reason
        && before.is_some_and(|c| c.message == ready.message && c.observed_generation == generation)
    {
        return None;
    }
    let last_transition_time = match before {
        Some(before) if same_status => before.last_transition_time.clone(),
        _ => Time(Timestamp::from_second(now.unix_timestamp()).unwrap_or(Timestamp::UNIX_EPOCH)),
    };
    Some(Change {
        condition: Condition {
            type_: CONDITION_READY.to_owned(),
            status: ready.status().to_owned(),
            reason: ready.reason.as_str().to_owned(),
            message: ready.message.clone(),
            observed_generation: generation,
            last_transition_time,
        },
        flipped: !(same_status && same_reason),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    fn seconds(change: &Change) -> i64 {
        change.condition.last_transition_time.0.as_second()
    }

    #[test]
    fn the_transition_time_moves_only_on_flips_of_the_status() {
        let missing = Ready::new(Reason::AppNotFound, "no app");
        let first = change(&[], &missing, Some(1), at(100)).unwrap();
        assert_eq!((seconds(&first), first.flipped), (100, true));

        let exceeds = Ready::new(Reason::ScopeExceedsCeiling, "a:b:c");
        let second = change(&[first.condition], &exceeds, Some(1), at(200)).unwrap();
        assert_eq!(
            (seconds(&second), second.flipped),
            (100, true),
            "another reason, the same status"
        );

        let more = Ready::new(Reason::ScopeExceedsCeiling, "a:b:c, d:e:f");
        let third = change(&[second.condition], &more, Some(2), at(300)).unwrap();
        assert_eq!((seconds(&third), third.flipped), (100, false), "another message only");

        let synced = Ready::new(Reason::Synced, "in force");
        let fourth = change(&[third.condition], &synced, Some(2), at(400)).unwrap();
        assert_eq!((seconds(&fourth), fourth.flipped), (400, true));
        assert_eq!(fourth.condition.status, "True");
    }

    #[test]
    fn nothing_is_written_when_nothing_changed() {
        let synced = Ready::new(Reason::Synced, "in force");
        let first = change(&[], &synced, Some(3), at(1)).unwrap();
        assert_eq!(
            change(std::slice::from_ref(&first.condition), &synced, Some(3), at(2)),
            None
        );
        assert!(
            change(&[first.condition], &synced, Some(4), at(2)).is_some(),
            "another generation"
        );
    }
}
