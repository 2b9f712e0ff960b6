//! What the broker was last seen to hold, and whether it answers.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use agentwrit_protocol::PolicyUid;
use agentwrit_protocol::k8s::{PolicyField, PolicySummary};
use tokio::time::Instant;

use super::PolicyKey;

/// After this long without an answer, every object says so, also those whose policy was accepted before.
const UNREACHABLE_SHOWS_AFTER: Duration = Duration::from_secs(30);

/// What the broker was last seen to hold.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) policies: HashMap<PolicyKey, PolicySummary>,
    /// Those that the broker has accepted since it was last asked for its list.
    pub(super) written: HashSet<PolicyKey>,
    /// Removed policies that a list under way may still show.
    pub(super) removed: HashSet<PolicyUid>,
    /// Fields that may be left out and that it enforces.
    pub(super) fields: Vec<String>,
    pub(super) epoch: String,
    pub(super) unreachable: Option<Unreachable>,
    pub(super) answered: bool,
}

impl View {
    /// The broker is asked for its list from now on.
    pub(super) fn ask(&mut self) {
        self.written.clear();
    }

    /// The broker has accepted this.
    pub(super) fn accepted(&mut self, key: &PolicyKey, policy: PolicySummary) {
        self.written.insert(key.clone());
        self.policies.insert(key.clone(), policy);
    }

    /// Takes over the broker's list. What was accepted since it was asked for stays as it is known here: the list may be
    /// older.
    pub(super) fn update(&mut self, policies: Vec<PolicySummary>) {
        // What was removed meanwhile isn't held: it would count as orphaned, and be removed once more, otherwise
        // than its deletionPolicy wants.
        let mut still_listed = HashSet::new();
        let mut before = std::mem::replace(&mut self.policies, HashMap::with_capacity(policies.len()));
        for policy in policies {
            if self.removed.contains(&policy.uid) {
                still_listed.insert(policy.uid);
            } else {
                self.policies.insert(PolicyKey::from(&policy), policy);
            }
        }
        self.removed = still_listed;
        for key in &self.written {
            let is_older = |listed: &PolicySummary, written: &PolicySummary| listed.order < written.order;
            if let Some(written) = before.remove(key)
                && self.policies.get(key).is_none_or(|listed| is_older(listed, &written))
            {
                self.policies.insert(key.clone(), written);
            }
        }
    }

    /// Those of these fields that the broker doesn't list; none before it has answered.
    pub(super) fn unknown_fields(&self, used: Vec<PolicyField>) -> Vec<&'static str> {
        if !self.answered {
            return Vec::new();
        }
        let used = used.into_iter().map(PolicyField::as_str);
        used.filter(|field| !self.fields.iter().any(|known| known == field))
            .collect()
    }

    pub(super) fn remove(&mut self, key: &PolicyKey, uid: &PolicyUid) {
        self.removed.insert(uid.clone());
        if self.policies.get(key).is_some_and(|held| held.uid == *uid) {
            self.policies.remove(key);
        }
    }
}

/// Since when the broker doesn't answer, and why.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unreachable {
    pub(super) since: Instant,
    pub(super) kind: &'static str,
}

impl Unreachable {
    /// Whether it has lasted so long that every object says so.
    pub(super) fn shows(self) -> bool {
        self.since.elapsed() >= UNREACHABLE_SHOWS_AFTER
    }
}

#[cfg(test)]
mod tests {
    use agentwrit_protocol::k8s::{PolicyKind, WriteOrder};

    use super::*;

    fn list(uids: &[&str]) -> Vec<PolicySummary> {
        let policy = |uid: &&str| PolicySummary {
            kind: PolicyKind::LaunchToken,
            namespace: "shop".into(),
            name: format!("token-{uid}"),
            uid: (*uid).into(),
            generation: 1,
            digest: "d".into(),
            order: WriteOrder {
                lease_epoch: 1,
                sequence: 1,
            },
            app_id: None,
            client: None,
            active_agents: 0,
            issued: 0,
        };
        uids.iter().map(policy).collect()
    }

    #[test]
    fn fields_that_the_broker_does_not_list_are_unknown() {
        let used = || vec![PolicyField::Audiences, PolicyField::PodSelector];
        let mut view = View::default();
        assert!(
            view.unknown_fields(used()).is_empty(),
            "nothing is known before it has answered"
        );
        view.answered = true;
        assert_eq!(
            view.unknown_fields(used()),
            ["audiences", "podSelector"],
            "an earlier version lists none"
        );
        view.fields = vec!["podSelector".into(), "later".into()];
        assert_eq!(view.unknown_fields(used()), ["audiences"]);
        assert!(view.unknown_fields(Vec::new()).is_empty());
    }

    #[test]
    fn a_list_under_way_doesnt_bring_a_removed_policy_back() {
        let mut view = View::default();
        view.update(list(&["a", "b"]));
        let key = view.policies.keys().find(|key| key.name == "token-a").unwrap().clone();
        view.remove(&key, &"a".into());
        view.update(list(&["a", "b"]));
        assert!(
            !view.policies.contains_key(&key),
            "the answer is older than the removal"
        );
        view.update(list(&["b"]));
        assert!(view.removed.is_empty(), "nothing is remembered for ever");
    }

    #[test]
    fn a_list_under_way_doesnt_hide_what_was_written_since() {
        let mut view = View::default();
        let write = |uid: &str, sequence| {
            let mut policy = list(&[uid]).remove(0);
            policy.order.sequence = sequence;
            (PolicyKey::from(&policy), policy)
        };
        let (key, before) = write("before", 2);
        view.accepted(&key, before);
        view.ask();
        let (key, since) = write("since", 3);
        view.accepted(&key, since);
        let (key, other) = write("other", 4);
        view.accepted(&key, other);
        let mut older = list(&["other"]);
        older.extend(list(&["listed"]));
        view.update(older);
        let mut held: Vec<_> = view
            .policies
            .values()
            .map(|held| (&*held.uid, held.order.sequence))
            .collect();
        held.sort_unstable();
        assert_eq!(
            held,
            [("listed", 1), ("other", 4), ("since", 3)],
            "the broker lost the one before"
        );
        view.ask();
        view.update(list(&[]));
        assert!(view.policies.is_empty(), "asked for after the writes");
    }
}
