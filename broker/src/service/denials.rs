//! Refusals of pods: in the audit trail, and in the feed from which the controller writes Events.

use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::k8s::{DenialsResponse, LivePod};
use async_trait::async_trait;

use crate::attest::DenialKind;
use crate::limits::Asker;
use crate::store::policy::NewDenial;
use crate::store::{Command, DenialDraft, Result, Tx};

/// Most refusals in one answer of the feed.
const PAGE: i64 = 200;

/// Who was refused what; empty strings are not known.
#[derive(Debug, Clone, Copy)]
pub struct Refused<'a> {
    /// The precise kind.
    pub kind: DenialKind,
    /// The pod, once the API server has vouched for it.
    pub pod: Option<&'a LivePod>,
    /// LaunchToken that was named.
    pub policy: &'a str,
    /// `metadata.uid` of that LaunchToken.
    pub policy_uid: &'a str,
    /// Of the launch.
    pub correlation_id: &'a str,
    /// As claimed.
    pub orch_id: &'a str,
    /// As claimed.
    pub task_id: &'a str,
    /// ServiceAccount, once the API server has vouched for it.
    pub actor: &'a str,
    /// Network address.
    pub source: &'a str,
    /// What is special about this one, such as the scopes that were too many.
    pub note: &'a str,
    /// What was asked for; for the trail alone.
    pub asked: &'a str,
}

impl Refused<'_> {
    fn sentence(&self) -> String {
        sentence(self.kind, self.note)
    }

    /// The audit event of this refusal.
    pub fn draft(&self, event: EventType) -> DenialDraft {
        let mut detail = self.sentence();
        if let Some(pod) = self.pod {
            detail = format!("{detail} Pod {}/{}", pod.namespace, pod.name);
            if !self.policy.is_empty() {
                detail = format!("{detail}, LaunchToken {}", self.policy);
            }
        }
        DenialDraft::denied(event, detail)
            .asked(self.asked)
            .ids("", self.task_id, self.orch_id)
            .actor(self.actor)
            .source(self.source)
            .correlation_id(self.correlation_id)
            .policy_uid(self.policy_uid)
            .pod_uid(self.pod.map_or("", |pod| &pod.uid))
            .error_kind(self.kind.as_str())
    }
}

/// What happened, in a sentence or two.
pub fn sentence(kind: DenialKind, note: &str) -> String {
    if note.is_empty() {
        kind.describe().to_owned()
    } else {
        format!("{} {note}.", kind.describe())
    }
}

/// Writes a refusal into the audit trail and, when it concerns a known pod, into the feed: neither when it is only
/// counted.
///
/// # Errors
/// When the store fails.
pub async fn record(tx: &mut dyn Tx, asker: Asker<'_>, event: EventType, refused: &Refused<'_>) -> Result<()> {
    let audited = tx.deny(asker, refused.draft(event));
    match refused.pod.filter(|_| audited) {
        Some(pod) => tell(tx, pod, refused.policy, refused.kind, refused.note).await,
        None => Ok(()),
    }
}

/// Writes into the feed alone.
///
/// # Errors
/// When the store fails.
pub async fn tell(tx: &mut dyn Tx, pod: &LivePod, policy: &str, kind: DenialKind, note: &str) -> Result<()> {
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
pub struct RecordDenial {
    /// The precise kind.
    pub kind: DenialKind,
    /// The pod, if the token is bound to one.
    pub pod: Option<LivePod>,
    /// LaunchToken that was named; may be empty.
    pub policy: String,
    /// ServiceAccount.
    pub actor: String,
    /// Network address.
    pub source: String,
    /// What was asked for; may be empty.
    pub asked: String,
}

#[async_trait]
impl Command for RecordDenial {
    type Outcome = ();

    async fn run(self, tx: &mut dyn Tx) -> Result<()> {
        let refused = Refused {
            kind: self.kind,
            pod: self.pod.as_ref(),
            policy: &self.policy,
            policy_uid: "",
            correlation_id: "",
            orch_id: "",
            task_id: self.pod.as_ref().map_or("", |pod| &pod.uid),
            actor: &self.actor,
            source: &self.source,
            note: "",
            asked: &self.asked,
        };
        let asker = Asker::Known(self.pod.as_ref().map_or(&self.actor, |pod| &pod.uid));
        record(tx, asker, EventType::AttestationDenied, &refused).await
    }
}

/// The feed after a cursor.
#[derive(Debug, Clone, Copy)]
pub struct ReadDenials {
    /// The last cursor seen; 0 for the first time.
    pub after: i64,
}

#[async_trait]
impl Command for ReadDenials {
    type Outcome = DenialsResponse;

    async fn run(self, tx: &mut dyn Tx) -> Result<DenialsResponse> {
        let denials = tx.denials(self.after, PAGE).await?;
        let next = denials.last().map_or(self.after, |last| last.cursor);
        Ok(DenialsResponse { denials, next })
    }
}
