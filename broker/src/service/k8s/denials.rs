//! Refusals of pods: in the audit trail, and in the feed from which the controller writes Events.

use agentwrit_limits::Asker;
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::k8s::DenialKind;
use agentwrit_protocol::k8s::{DenialsResponse, LivePod};
use agentwrit_protocol::{OrchId, PolicyUid, TaskId};
use agentwrit_store::policy::NewDenial;
use agentwrit_store::{Command, DenialDraft, Result, Store, Tx};
use async_trait::async_trait;

use super::error::K8sError;
use super::policy::input::InputError;

/// Most refusals in one answer of the feed.
const PAGE: i64 = 200;

/// Who was refused what; empty strings are not known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PodDenial<'a> {
    pub(crate) kind: DenialKind,
    /// The pod, once the API server has vouched for it.
    pub(crate) pod: Option<&'a LivePod>,
    /// LaunchToken that was named.
    pub(crate) policy: &'a str,
    /// `metadata.uid` of that LaunchToken.
    pub(crate) policy_uid: Option<&'a PolicyUid>,
    pub(crate) correlation_id: &'a str,
    pub(crate) orch_id: Option<&'a OrchId>,
    pub(crate) task_id: Option<&'a TaskId>,
    /// ServiceAccount, once the API server has vouched for it.
    pub(crate) actor: &'a str,
    pub(crate) source: &'a str,
    /// What is special about this one, such as the scopes that were too many.
    pub(crate) note: &'a str,
    /// What was asked for; for the trail alone.
    pub(crate) request: &'a str,
}

impl PodDenial<'_> {
    /// Of which nothing is known but its kind.
    pub(crate) const fn of(kind: DenialKind) -> Self {
        Self {
            kind,
            pod: None,
            policy: "",
            policy_uid: None,
            correlation_id: "",
            orch_id: None,
            task_id: None,
            actor: "",
            source: "",
            note: "",
            request: "",
        }
    }

    fn sentence(&self) -> String {
        sentence(self.kind, self.note)
    }

    /// The audit event of this refusal.
    pub(crate) fn draft(&self, event: EventType) -> DenialDraft {
        let mut detail = self.sentence();
        if let Some(pod) = self.pod {
            detail = format!("{detail} Pod {}/{}", pod.namespace, pod.name);
            if !self.policy.is_empty() {
                detail = format!("{detail}, LaunchToken {}", self.policy);
            }
        }
        let mut draft = DenialDraft::denied(event, detail)
            .with_request(self.request)
            .actor(self.actor)
            .source(self.source)
            .correlation_id(self.correlation_id)
            .error_kind(self.kind.as_str());
        if let Some(task) = self.task_id {
            draft = draft.task(task);
        }
        if let Some(orchestration) = self.orch_id {
            draft = draft.orchestration(orchestration);
        }
        if let Some(policy) = self.policy_uid {
            draft = draft.policy_uid(policy);
        }
        if let Some(pod) = self.pod {
            draft = draft.pod_uid(&pod.uid);
        }
        draft
    }
}

/// What happened, in a sentence or two.
pub(crate) fn sentence(kind: DenialKind, note: &str) -> String {
    if note.is_empty() {
        kind.describe().to_owned()
    } else {
        format!("{} {note}.", kind.describe())
    }
}

/// Writes a refusal into the audit trail and, when it concerns a known pod, into the feed; each has its own rate, so
/// that only the pod itself can keep its refusals from the feed.
pub(crate) async fn record(tx: &mut dyn Tx, asker: Asker<'_>, event: EventType, refused: &PodDenial<'_>) -> Result<()> {
    if let Some(pod) = refused.pod
        && tx.gate().feeds(&pod.uid)
    {
        feed(tx, pod, refused.policy, refused.kind, refused.note).await?;
    }
    tx.deny(asker, refused.draft(event));
    Ok(())
}

/// Writes into the feed alone.
pub(crate) async fn feed(tx: &mut dyn Tx, pod: &LivePod, policy: &str, kind: DenialKind, note: &str) -> Result<()> {
    let message = if policy.is_empty() {
        sentence(kind, note)
    } else {
        format!("LaunchToken {policy}: {}", sentence(kind, note))
    };
    tx.add_denial(&NewDenial {
        pod: pod.clone(),
        policy: policy.to_owned(),
        error_kind: kind.as_str(),
        message,
    })
    .await
}

/// A refusal of a caller that the API server has vouched for, outside of any other command.
#[derive(Debug)]
pub(crate) struct RecordDenial {
    pub(crate) kind: DenialKind,
    /// The pod, if the token is bound to one.
    pub(crate) pod: Option<LivePod>,
    /// LaunchToken that was named; may be empty.
    pub(crate) policy: String,
    pub(crate) actor: String,
    pub(crate) source: String,
    /// What was asked for; may be empty.
    pub(crate) request: String,
}

#[async_trait]
impl Command for RecordDenial {
    type Outcome = ();

    async fn run(self, tx: &mut dyn Tx) -> Result<()> {
        let task = self.pod.as_ref().map(|pod| TaskId::from(&pod.uid));
        let refused = PodDenial {
            pod: self.pod.as_ref(),
            policy: &self.policy,
            task_id: task.as_ref(),
            actor: &self.actor,
            source: &self.source,
            request: &self.request,
            ..PodDenial::of(self.kind)
        };
        let asker = match &self.pod {
            Some(pod) => Asker::Pod(&pod.uid),
            None => Asker::Known(&self.actor),
        };
        record(tx, asker, EventType::AttestationDenied, &refused).await
    }
}

/// The feed after the cursor that the query's parameters `given` name; of those with one name the last counts.
pub(crate) async fn read(store: &Store, given: &[(&str, String)]) -> std::result::Result<DenialsResponse, K8sError> {
    let after = match given.iter().rev().find(|(key, _)| *key == "after") {
        None => 0,
        Some((_, value)) => value
            .parse::<i64>()
            .ok()
            .filter(|after| *after >= 0)
            .ok_or_else(|| InputError::new("query parameter after must be a cursor: a whole number, 0 or more"))?,
    };
    Ok(page(store, after).await?)
}

async fn page(store: &Store, after: i64) -> Result<DenialsResponse> {
    let denials = store.query(move |tx| tx.denials(after, PAGE)).await?;
    let next = denials.last().map_or(after, |last| last.cursor);
    Ok(DenialsResponse { denials, next })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::broker;

    /// So many refusals of a namespace's pods.
    struct Refuse(&'static str, usize);

    #[async_trait]
    impl Command for Refuse {
        type Outcome = ();

        async fn run(self, tx: &mut dyn Tx) -> Result<()> {
            for number in 0..self.1 {
                let pod = LivePod {
                    uid: number.to_string().into(),
                    namespace: self.0.to_owned(),
                    name: number.to_string(),
                };
                feed(tx, &pod, "", DenialKind::AppNotReady, "").await?;
            }
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_namespaces_refusals_do_not_push_out_those_of_others() {
        let broker = broker().await;
        for (namespace, refusals) in [("quiet", 20), ("busy", 1_500), ("new", 30), ("busy", 1_500)] {
            broker.store.commit(Refuse(namespace, refusals)).await.unwrap();
        }
        let (mut after, mut found) = (0, Vec::new());
        loop {
            let answer = page(&broker.store, after).await.unwrap();
            if answer.denials.is_empty() {
                break;
            }
            after = answer.next;
            found.extend(answer.denials);
        }
        let of = |namespace: &str| found.iter().filter(|denial| denial.namespace == namespace).count();
        assert_eq!((of("quiet"), of("new"), of("busy")), (20, 30, 950));
        assert!(
            found.windows(2).all(|pair| pair[0].cursor < pair[1].cursor),
            "oldest first"
        );
    }
}
