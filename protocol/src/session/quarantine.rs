//! Which pod stands behind the target of a person's revocation (`docs/kubernetes-api.md` §4, "Quarantine").

use super::RevocationLevel;
use crate::ids::{Jti, PodUid};
use crate::k8s::ORCH_PREFIX;
use crate::spiffe::SpiffeId;

/// Length of the id of a session's token, lower-hex characters.
const JTI_LENGTH: usize = 32;
/// Longest UID, bytes.
const MAX_UID_BYTES: usize = 128;

/// How the target of a revocation leads to a pod, whether a session stands or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodBehind<'a> {
    /// The target names an attested agent, and so its pod: the pod's UID.
    Agent(PodUid),
    /// The target is a task: the UID of a pod that is known or has the form of one, else some other agent's task.
    Task(&'a str),
    /// The target is a token: the pod of the session that had it.
    Token(Jti),
    /// No pod can be behind it.
    Nothing,
}

impl<'a> PodBehind<'a> {
    /// How the target leads to a pod.
    pub fn of(level: RevocationLevel, target: &'a str) -> Self {
        match level {
            RevocationLevel::Agent | RevocationLevel::Chain => pod_of_agent(target).map_or(Self::Nothing, Self::Agent),
            RevocationLevel::Task if is_uid(target) => Self::Task(target),
            RevocationLevel::Token if is_jti(target) => Self::Token(target.into()),
            RevocationLevel::Task | RevocationLevel::Token => Self::Nothing,
        }
    }
}

/// The UID of the pod that an attested agent's SPIFFE id names; `None` for every other agent. An `orch_id` that starts
/// with `k8s.` is only given to attested pods.
pub fn pod_of_agent(agent_id: &str) -> Option<PodUid> {
    let id = SpiffeId::parse(agent_id).ok()?;
    (id.orch_id().starts_with(ORCH_PREFIX) && is_uid(id.task_id())).then(|| id.task_id().into())
}

/// Whether a task that is no known pod's UID has the form of one, as the API server makes them: RFC 9562 §4, in lower case.
pub fn has_uid_form(task: &str) -> bool {
    let lengths: Vec<usize> = task.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && task.bytes().all(|b| matches!(b, b'-' | b'0'..=b'9' | b'a'..=b'f'))
}

fn is_uid(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    !text.is_empty() && text.len() <= MAX_UID_BYTES && text.bytes().all(legal)
}

fn is_jti(text: &str) -> bool {
    text.len() == JTI_LENGTH && text.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_agents_id_names_its_pod_exactly_when_it_is_attested(
            orch in "(k8s\\.)?[a-z]{1,8}(\\.[a-z]{1,8})?", task in "[A-Za-z0-9._-]{1,140}", instance in "[0-9a-f]{16}",
        ) {
            prop_assume!(task != "." && task != "..");
            let id = SpiffeId::agent("agentwrit.local", &orch.as_str().into(), &task.as_str().into(), &instance).unwrap();
            let attested = orch.starts_with("k8s.") && task.len() <= MAX_UID_BYTES;
            let behind = PodBehind::of(RevocationLevel::Agent, id.as_str());
            prop_assert_eq!(&behind, &PodBehind::of(RevocationLevel::Chain, id.as_str()));
            prop_assert_eq!(behind, if attested { PodBehind::Agent(task.into()) } else { PodBehind::Nothing });
        }

        #[test]
        fn any_target_is_looked_at_without_harm(target in any::<String>()) {
            for level in RevocationLevel::ALL {
                let _ = PodBehind::of(level, &target);
            }
        }
    }

    const JTI: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn each_revocation_level_leads_to_the_pod() {
        let agent = |orch: &str, task: &str| format!("spiffe://agentwrit.local/agent/{orch}/{task}/0123456789abcdef");
        let (pod, person) = (agent("k8s.shop.orders", "uid-1"), agent("orch", "uid-1"));
        for (level, target, wanted) in [
            (RevocationLevel::Agent, pod.as_str(), PodBehind::Agent("uid-1".into())),
            (RevocationLevel::Chain, pod.as_str(), PodBehind::Agent("uid-1".into())),
            (RevocationLevel::Agent, person.as_str(), PodBehind::Nothing),
            (RevocationLevel::Chain, person.as_str(), PodBehind::Nothing),
            (RevocationLevel::Agent, "uid-1", PodBehind::Nothing),
            (RevocationLevel::Task, "uid-1", PodBehind::Task("uid-1")),
            (RevocationLevel::Task, "no uid", PodBehind::Nothing),
            (RevocationLevel::Task, pod.as_str(), PodBehind::Nothing),
            (RevocationLevel::Token, JTI, PodBehind::Token(JTI.into())),
            (RevocationLevel::Token, "uid-1", PodBehind::Nothing),
            (RevocationLevel::Token, &JTI.to_uppercase(), PodBehind::Nothing),
        ] {
            assert_eq!(PodBehind::of(level, target), wanted, "{level:?} {target}");
        }
    }

    #[test]
    fn a_pod_uid_is_told_apart_from_other_tasks() {
        for (task, wanted) in [
            ("3f0e8a52-6a0b-4f7e-9d2b-0a1b2c3d4e5f", true),
            ("3f0e8a52-6a0b-4f7e-9d2b-0a1b2c3d4e5g", false),
            ("3f0e8a526a0b4f7e9d2b0a1b2c3d4e5f", false),
            ("report-7", false),
        ] {
            assert_eq!(has_uid_form(task), wanted, "{task}");
        }
    }
}
