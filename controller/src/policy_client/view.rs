//! What the broker was last seen to hold, and whether it answers.

use std::collections::{HashMap, HashSet};

use agentwrit_protocol::PolicyUid;
use agentwrit_protocol::k8s::{PolicyField, PolicyListResponse, PolicySummary};
use tokio::time::Instant;

use super::PolicyKey;

/// What the broker was last seen to hold.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) policies: HashMap<PolicyKey, PolicySummary>,
    /// Removed policies that a list under way may still show.
    pub(super) removed: HashSet<PolicyUid>,
    /// Fields that may be left out and that it enforces.
    pub(super) fields: Vec<String>,
    pub(super) epoch: String,
    pub(super) unreachable: Option<Unreachable>,
    pub(super) answered: bool,
}

impl View {
    /// Takes over the broker's list.
    pub(super) fn update(&mut self, list: &PolicyListResponse) {
        self.fields.clone_from(&list.fields);
        // What was removed meanwhile isn't held: it would count as orphaned, and be removed once more, otherwise
        // than its deletionPolicy wants.
        self.removed
            .retain(|uid| list.policies.iter().any(|policy| policy.uid == *uid));
        let held = list
            .policies
            .iter()
            .filter(|policy| !self.removed.contains(&policy.uid));
        self.policies = held.map(|policy| (PolicyKey::from(policy), policy.clone())).collect();
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

#[cfg(test)]
mod tests {
    use agentwrit_protocol::k8s::{PolicyKind, WriteOrder};

    use super::*;

    fn list(uids: &[&str]) -> PolicyListResponse {
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
            active_agents: 0,
            issued: 0,
        };
        PolicyListResponse {
            epoch: "e".into(),
            lease_epoch: 1,
            policies: uids.iter().map(policy).collect(),
            pods: Vec::new(),
            fields: Vec::new(),
        }
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
        view.update(&PolicyListResponse {
            fields: vec!["podSelector".into(), "later".into()],
            ..list(&[])
        });
        assert_eq!(view.unknown_fields(used()), ["audiences"]);
        assert!(view.unknown_fields(Vec::new()).is_empty());
    }

    #[test]
    fn a_list_under_way_doesnt_bring_a_removed_policy_back() {
        let mut view = View::default();
        view.update(&list(&["a", "b"]));
        let key = view.policies.keys().find(|key| key.name == "token-a").unwrap().clone();
        view.remove(&key, &"a".into());
        view.update(&list(&["a", "b"]));
        assert!(
            !view.policies.contains_key(&key),
            "the answer is older than the removal"
        );
        view.update(&list(&["b"]));
        assert!(view.removed.is_empty(), "nothing is remembered for ever");
    }
}
