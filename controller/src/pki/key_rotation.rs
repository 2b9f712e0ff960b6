//! The Secret with the signing keys: a new key when one was asked for or is due, and none that is retired.
//!
//! The broker decides which key signs; the Secret only holds the private halves.

use std::time::Duration;

use agentwrit_protocol::UnixSeconds;
use agentwrit_protocol::signing_keys::wire::{SigningKeyView, SigningKeysResponse};
use agentwrit_protocol::signing_keys::{KeyState, MOST_HELD};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A key in the Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Its name in the Secret.
    pub(crate) name: String,
    /// RFC 7638 thumbprint.
    pub(crate) kid: String,
}

/// What is to be done with the Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Why another key is added.
    pub(crate) add: Option<&'static str>,
    /// Names of keys that go.
    pub(crate) remove: Vec<String>,
}

impl Plan {
    /// What the broker says of its keys, and the Secret has; a key is due `rotate_every` after the last was published,
    /// never when that is zero.
    pub(crate) fn of(
        stored: &[Stored],
        broker: &SigningKeysResponse,
        now: UnixSeconds,
        rotate_every: Duration,
    ) -> Self {
        let state = |kid: &str| broker.keys.iter().find(|key| key.kid == kid).map(|key| key.state);
        // Until the broker has published what it was given, nothing more is added.
        let is_on_its_way = stored
            .iter()
            .any(|key| matches!(state(&key.kid), None | Some(KeyState::Next)));
        let living = broker.keys.iter().filter(|key| key.state != KeyState::Retired);
        let newest = living.filter_map(published_at).max();
        let is_due =
            newest.is_some_and(|newest| !rotate_every.is_zero() && now.start() >= newest.start() + rotate_every);
        let why = match (&broker.rotation_requested_at, is_due) {
            (Some(_), _) => Some("it was asked for"),
            (None, true) => Some("the last one is as old as keys.rotateEvery"),
            (None, false) => None,
        };
        let remove: Vec<String> = stored
            .iter()
            .filter(|key| state(&key.kid) == Some(KeyState::Retired))
            .map(|key| key.name.clone())
            .collect();
        let add = why.filter(|_| !is_on_its_way && stored.len().saturating_sub(remove.len()) < MOST_HELD);
        // A broker without any key can't even say so: one stays until there is another.
        let keeps_one = add.is_some() || remove.len() < stored.len();
        Self {
            add,
            remove: if keeps_one { remove } else { Vec::new() },
        }
    }

    /// Whether nothing is to be done.
    pub(crate) fn is_empty(&self) -> bool {
        self.add.is_none() && self.remove.is_empty()
    }
}

fn published_at(key: &SigningKeyView) -> Option<UnixSeconds> {
    OffsetDateTime::parse(&key.published_at, &Rfc3339)
        .ok()
        .map(UnixSeconds::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn view(kid: &str, state: KeyState) -> SigningKeyView {
        SigningKeyView {
            kid: kid.to_owned(),
            x: String::new(),
            state,
            held: true,
            published_at: "2027-01-15T08:00:00Z".to_owned(),
            signs_from: String::new(),
            retires_at: None,
            retired_at: None,
            leaked: false,
        }
    }

    fn broker(keys: &[(&str, KeyState)], asked: bool) -> SigningKeysResponse {
        SigningKeysResponse {
            keys: keys.iter().map(|(kid, state)| view(kid, *state)).collect(),
            rotation_requested_at: asked.then(|| "2027-01-15T08:00:00Z".to_owned()),
        }
    }

    fn plan(stored: &[&str], broker: &SigningKeysResponse, after: Duration) -> Plan {
        let stored: Vec<_> = stored
            .iter()
            .map(|kid| Stored {
                name: format!("{kid}.key"),
                kid: (*kid).to_owned(),
            })
            .collect();
        // 2027-01-15T08:00:00Z
        let now = UnixSeconds::new(1_800_000_000).start() + after;
        Plan::of(&stored, broker, now.second(), DAY)
    }

    #[test]
    fn a_key_is_added_when_it_is_asked_for_or_due_and_only_one() {
        use KeyState::{Active, Next, Previous};
        let soon = Duration::from_mins(1);
        for (stored, keys, asked, after, wanted) in [
            (&["a"][..], &[("a", Active)][..], false, soon, false),
            (&["a"], &[("a", Active)], true, soon, true),
            (&["a", "b"], &[("a", Active)], true, soon, false),
            (&["a", "b"], &[("a", Active), ("b", Next)], true, DAY, false),
            (&["a"], &[("a", Active)], false, DAY, true),
            (&["a", "b"], &[("a", Active)], false, DAY, false),
            (&["a", "b"], &[("a", Previous), ("b", Active)], false, DAY, true),
            // Before the broker has published anything.
            (&["a"], &[], false, DAY, false),
        ] {
            let plan = plan(stored, &broker(keys, asked), after);
            assert_eq!(plan.add.is_some(), wanted, "{stored:?} {keys:?} {asked}");
            assert!(plan.remove.is_empty());
        }
        let never = Plan::of(
            &[],
            &broker(&[("a", Active)], false),
            UnixSeconds::new(i64::MAX),
            Duration::ZERO,
        );
        assert!(never.is_empty(), "zero is never");
    }

    #[test]
    fn retired_keys_go_but_for_the_only_one() {
        use KeyState::{Active, Retired};
        let soon = Duration::from_mins(1);
        let both = plan(&["a", "b"], &broker(&[("a", Retired), ("b", Active)], false), soon);
        assert_eq!((both.add, both.remove), (None, vec!["a.key".to_owned()]));
        let only = plan(&["a"], &broker(&[("a", Retired)], false), soon);
        assert!(only.is_empty());
        let leaked = plan(&["a"], &broker(&[("a", Retired)], true), soon);
        assert_eq!((leaked.add.is_some(), leaked.remove), (true, vec!["a.key".to_owned()]));
    }

    #[test]
    fn the_secret_is_bounded() {
        let kids: Vec<String> = (0..MOST_HELD).map(|n| n.to_string()).collect();
        let stored: Vec<&str> = kids.iter().map(String::as_str).collect();
        let keys: Vec<_> = stored.iter().map(|kid| (*kid, KeyState::Previous)).collect();
        assert!(plan(&stored, &broker(&keys, true), Duration::ZERO).is_empty());
    }
}
