//! The conditions of an object, computed as plain data.

use agentwrit_crds::{CONDITION_CA_BUNDLE, CONDITION_FINALIZER, CONDITION_READY, CONDITION_TOKEN_SIZE};
use agentwrit_protocol::UnixSeconds;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::kubernetes_time::timestamp;

/// Why an object is ready or not; the closed set of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
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
    /// Scopes that the platform's team doesn't allow the namespace.
    ScopeExceedsNamespaceCeiling,
    /// `spec.clientCredentials` isn't allowed here.
    ClientCredentialsDisabled,
    /// The Secret of `spec.clientCredentials` is somebody else's.
    SecretNotOwned,
    /// The API server refused the Secret of `spec.clientCredentials`, or didn't answer.
    SecretNotWritten,
    /// The broker can't be reached.
    BrokerUnavailable,
    /// The broker refused the policy.
    BrokerRefused,
    /// Being deleted, and the broker hasn't heard of it yet.
    Deleting,
}

impl Reason {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Synced => "Synced",
            Self::Suspended => "Suspended",
            Self::AppNotFound => "AppNotFound",
            Self::AppNotReady => "AppNotReady",
            Self::ScopeExceedsCeiling => "ScopeExceedsCeiling",
            Self::ScopeExceedsNamespaceCeiling => "ScopeExceedsNamespaceCeiling",
            Self::ClientCredentialsDisabled => "ClientCredentialsDisabled",
            Self::SecretNotOwned => "SecretNotOwned",
            Self::SecretNotWritten => "SecretNotWritten",
            Self::BrokerUnavailable => "BrokerUnavailable",
            Self::BrokerRefused => "BrokerRefused",
            Self::Deleting => "Deleting",
        }
    }
}

/// What the condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ready {
    /// Why; only `Synced` is ready.
    pub(crate) reason: Reason,
    /// Why, in a sentence.
    pub(crate) message: String,
}

impl Ready {
    /// A condition with this reason and sentence.
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    /// Whether the status is True.
    pub(crate) fn is_true(&self) -> bool {
        self.reason == Reason::Synced
    }
}

/// The condition types that the controller writes.
const TYPES: [&str; 4] = [
    CONDITION_READY,
    CONDITION_CA_BUNDLE,
    CONDITION_TOKEN_SIZE,
    CONDITION_FINALIZER,
];

/// One condition as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) type_: &'static str,
    /// Whether the status is True.
    pub(crate) is_true: bool,
    /// Why, in one word.
    pub(crate) reason: &'static str,
    /// Why, in a sentence.
    pub(crate) message: String,
}

impl From<&Ready> for Wanted {
    fn from(ready: &Ready) -> Self {
        Self {
            type_: CONDITION_READY,
            is_true: ready.is_true(),
            reason: ready.reason.as_str(),
            message: ready.message.clone(),
        }
    }
}

impl Wanted {
    const fn status(&self) -> &'static str {
        if self.is_true { "True" } else { "False" }
    }
}

/// The present condition of this type among `conditions`.
fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// The present `Ready` condition among `conditions`.
pub(crate) fn present(conditions: &[Condition]) -> Option<&Condition> {
    find(conditions, CONDITION_READY)
}

/// Those of `conditions` that the controller writes.
pub(crate) fn ours(conditions: &[Condition]) -> Vec<Condition> {
    TYPES
        .iter()
        .filter_map(|type_| find(conditions, type_).cloned())
        .collect()
}

/// What has to change of one condition.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    /// The condition to write.
    pub(crate) condition: Condition,
    /// Whether status or reason changed.
    pub(crate) flipped: bool,
}

/// What to write so that `conditions` say `wanted` of `generation`; `None` when they do already. The transition time
/// moves only when the status does.
pub(crate) fn change(
    conditions: &[Condition],
    wanted: &Wanted,
    generation: Option<i64>,
    now: UnixSeconds,
) -> Option<Change> {
    let before = find(conditions, wanted.type_);
    let same_status = before.is_some_and(|c| c.status == wanted.status());
    let same_reason = before.is_some_and(|c| c.reason == wanted.reason);
    if same_status
        && same_reason
        && before.is_some_and(|c| c.message == wanted.message && c.observed_generation == generation)
    {
        return None;
    }
    let last_transition_time = match before {
        Some(before) if same_status => before.last_transition_time.clone(),
        _ => Time(timestamp(now)),
    };
    Some(Change {
        condition: Condition {
            type_: wanted.type_.to_owned(),
            status: wanted.status().to_owned(),
            reason: wanted.reason.to_owned(),
            message: wanted.message.clone(),
            observed_generation: generation,
            last_transition_time,
        },
        flipped: !(same_status && same_reason),
    })
}

/// What to write of all conditions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Changes {
    /// All conditions of ours, changed or not: those that aren't among them go away.
    pub(crate) conditions: Vec<Condition>,
    /// Those that need an Event.
    pub(crate) flipped: Vec<Wanted>,
}

/// What to write so that `conditions` say all that is `wanted`, keep what is there of the types `kept`, and nothing
/// else of ours; `None` when it is so already.
///
/// What turns False, and what turns back, needs an Event. That a new object is as it should be needs none.
pub(crate) fn changes(
    conditions: &[Condition],
    wanted: &[Wanted],
    kept: &[&str],
    generation: Option<i64>,
    now: UnixSeconds,
) -> Option<Changes> {
    let (mut all, mut flipped, mut is_new) = (Vec::new(), Vec::new(), false);
    for type_ in TYPES {
        let before = find(conditions, type_);
        let Some(wanted) = wanted.iter().find(|wanted| wanted.type_ == type_) else {
            match before {
                Some(before) if kept.contains(&type_) => all.push(before.clone()),
                before => is_new |= before.is_some(),
            }
            continue;
        };
        match change(conditions, wanted, generation, now) {
            Some(change) => {
                is_new = true;
                if change.flipped && (before.is_some() || !wanted.is_true) {
                    flipped.push(wanted.clone());
                }
                all.push(change.condition);
            }
            None => all.extend(before.cloned()),
        }
    }
    is_new.then_some(Changes {
        conditions: all,
        flipped,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(conditions: &[Condition], ready: &Ready, generation: Option<i64>, now: UnixSeconds) -> Option<Change> {
        super::change(conditions, &Wanted::from(ready), generation, now)
    }

    fn at(seconds: i64) -> UnixSeconds {
        UnixSeconds::new(seconds)
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

    fn ca(is_true: bool) -> Wanted {
        Wanted {
            type_: CONDITION_CA_BUNDLE,
            is_true,
            reason: if is_true { "Written" } else { "NotWritten" },
            message: String::new(),
        }
    }

    fn types(changes: &Changes) -> Vec<&str> {
        changes.conditions.iter().map(|c| c.type_.as_str()).collect()
    }

    #[test]
    fn changes_are_reported_but_not_a_good_beginning() {
        let ready = Wanted::from(&Ready::new(Reason::Synced, "in force"));
        let told = |changes: &Changes| -> Vec<&str> { changes.flipped.iter().map(|wanted| wanted.reason).collect() };
        let first = changes(&[], &[ready.clone(), ca(true)], &[], Some(1), at(1)).unwrap();
        assert_eq!((types(&first), told(&first).len()), (vec!["Ready", "CABundle"], 0));
        let missing = Wanted::from(&Ready::new(Reason::AppNotFound, "no app"));
        let bad = changes(&[], std::slice::from_ref(&missing), &[], Some(1), at(1)).unwrap();
        assert_eq!(told(&bad), ["AppNotFound"]);
        let healed = changes(&bad.conditions, std::slice::from_ref(&ready), &[], Some(1), at(2)).unwrap();
        assert_eq!(told(&healed), ["Synced"]);
        let bad = changes(&first.conditions, &[ready.clone(), ca(false)], &[], Some(1), at(2)).unwrap();
        assert_eq!(
            (types(&bad), told(&bad)),
            (vec!["Ready", "CABundle"], vec!["NotWritten"])
        );
        let good = changes(&bad.conditions, &[ready.clone(), ca(true)], &[], Some(1), at(3)).unwrap();
        assert_eq!(told(&good), ["Written"]);
        assert_eq!(changes(&good.conditions, &[ready, ca(true)], &[], Some(1), at(4)), None);
    }

    #[test]
    fn conditions_neither_wanted_nor_kept_are_removed() {
        let ready = Wanted::from(&Ready::new(Reason::Synced, "in force"));
        let both = changes(&[], &[ready.clone(), ca(true)], &[], Some(1), at(1)).unwrap();
        let wanted = std::slice::from_ref(&ready);
        assert_eq!(
            changes(&both.conditions, wanted, &[CONDITION_CA_BUNDLE], Some(1), at(2)),
            None,
            "kept as it is"
        );
        let one = changes(&both.conditions, wanted, &[], Some(1), at(2)).unwrap();
        assert_eq!((types(&one), one.flipped.len()), (vec!["Ready"], 0));
    }
}
