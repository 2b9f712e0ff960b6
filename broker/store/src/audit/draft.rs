//! Events before they are numbered, dated and chained.

use std::marker::PhantomData;

use agentwrit_protocol::audit::{EventType, ExtraFields, Outcome};
use agentwrit_protocol::excerpt::excerpt;
use agentwrit_protocol::{OrchId, PodUid, PolicyUid, TaskId};

use super::{Asker, DenialGate};
use crate::session::Session;

/// Marks the draft of an event that goes into the trail.
#[derive(Debug, Clone, Copy)]
pub enum Audited {}

/// Marks the draft of a denial, which only a [`DenialGate`] lets into the trail.
#[derive(Debug, Clone, Copy)]
pub enum Denied {}

/// An event of something that was done, or of a denial that passed the gate.
pub type EventDraft = Draft<Audited>;

/// A denial before the gate.
pub type DenialDraft = Draft<Denied>;

/// An event before it is numbered, dated and chained.
#[derive(Debug, Clone)]
pub struct Draft<K> {
    /// What happened.
    pub event_type: EventType,
    /// Whether it was done or refused.
    pub outcome: Outcome,
    /// SPIFFE id, or the target of a revocation; may be empty.
    pub agent_id: String,
    /// Task; may be empty.
    pub task_id: String,
    /// Orchestration; may be empty.
    pub orch_id: String,
    /// What happened, for a person; never a secret.
    pub detail: String,
    /// Request path of a refused bearer; may be empty.
    pub resource: String,
    /// Length of the delegation chain; 0 for none.
    pub deleg_depth: i64,
    /// Hash of the delegation chain; may be empty.
    pub deleg_chain_hash: String,
    /// Fields beside the contract's.
    pub extra: ExtraFields,
    kind: PhantomData<K>,
}

impl EventDraft {
    /// An event of something that was done.
    pub fn success(event_type: EventType, detail: impl Into<String>) -> Self {
        Self::new(event_type, Outcome::Success, detail.into())
    }

    /// The event that says how many denials were only counted. Its type is `token_auth_failed` whatever they were
    /// denials of: the error kind `suppressed` tells it from the refusal of a token.
    pub fn suppressed(denials: u64) -> Self {
        let draft = DenialDraft::denied(EventType::TokenAuthFailed, format!("suppressed={denials}"));
        draft.error_kind("suppressed").into_event()
    }
}

impl DenialDraft {
    /// An event of something that was refused.
    pub fn denied(event_type: EventType, detail: impl Into<String>) -> Self {
        Self::new(event_type, Outcome::Denied, detail.into())
    }

    /// The event, when the gate lets this asker's denial into the trail; else it is only counted. Nothing else makes an
    /// event of a denial.
    pub fn through(self, gate: &(impl DenialGate + ?Sized), asker: Asker<'_>) -> Option<EventDraft> {
        gate.admits(asker).then(|| self.into_event())
    }

    fn into_event(self) -> EventDraft {
        Draft {
            event_type: self.event_type,
            outcome: self.outcome,
            agent_id: self.agent_id,
            task_id: self.task_id,
            orch_id: self.orch_id,
            detail: self.detail,
            resource: self.resource,
            deleg_depth: self.deleg_depth,
            deleg_chain_hash: self.deleg_chain_hash,
            extra: self.extra,
            kind: PhantomData,
        }
    }
}

impl<K> Draft<K> {
    fn new(event_type: EventType, outcome: Outcome, detail: String) -> Self {
        Self {
            event_type,
            outcome,
            agent_id: String::new(),
            task_id: String::new(),
            orch_id: String::new(),
            detail,
            resource: String::new(),
            deleg_depth: 0,
            deleg_chain_hash: String::new(),
            extra: ExtraFields::default(),
            kind: PhantomData,
        }
    }

    /// Sets the SPIFFE id of the agent, or the target of a revocation.
    #[must_use]
    pub fn agent(mut self, agent_id: &str) -> Self {
        agent_id.clone_into(&mut self.agent_id);
        self
    }

    /// Sets the task.
    #[must_use]
    pub fn task(mut self, task_id: &TaskId) -> Self {
        task_id.as_str().clone_into(&mut self.task_id);
        self
    }

    /// Sets the orchestration.
    #[must_use]
    pub fn orchestration(mut self, orch_id: &OrchId) -> Self {
        orch_id.as_str().clone_into(&mut self.orch_id);
        self
    }

    /// Adds to the detail what was asked for, as [`agentwrit_protocol::excerpt::describe_request`] puts it; nothing
    /// when empty.
    #[must_use]
    pub fn with_request(mut self, description: &str) -> Self {
        if !description.is_empty() {
            self.detail.truncate(self.detail.trim_end_matches('.').len());
            self.detail.push_str("; ");
            self.detail.push_str(description);
        }
        self
    }

    /// Sets ids and the extra fields of a session: correlation id, pod and policy.
    #[must_use]
    pub fn of_session(self, session: &Session) -> Self {
        self.within_session(session)
            .agent(&session.agent_id)
            .task(&session.task_id)
            .orchestration(&session.orch_id)
    }

    /// Sets the extra fields of a session, for an event about a subject that acts under it.
    #[must_use]
    pub fn within_session(mut self, session: &Session) -> Self {
        let extra = session.extra();
        self.extra.correlation_id = extra.correlation_id;
        self.extra.pod_uid = extra.pod_uid;
        self.extra.policy_uid = extra.policy_uid;
        self
    }

    /// Sets length and hash of the delegation chain.
    #[must_use]
    pub fn delegation(mut self, depth: usize, chain_hash: &str) -> Self {
        self.deleg_depth = i64::try_from(depth).unwrap_or(i64::MAX);
        chain_hash.clone_into(&mut self.deleg_chain_hash);
        self
    }

    /// Sets the request path; a stranger's may be as long as a header block.
    #[must_use]
    pub fn resource(mut self, path: &str) -> Self {
        self.resource = excerpt(path);
        self
    }

    /// Sets the subject or ServiceAccount that did it.
    #[must_use]
    pub fn actor(mut self, actor: &str) -> Self {
        actor.clone_into(&mut self.extra.actor);
        self
    }

    /// Sets where it came from: a network address.
    #[must_use]
    pub fn source(mut self, source: &str) -> Self {
        source.clone_into(&mut self.extra.source);
        self
    }

    /// Sets the precise kind of a refusal.
    #[must_use]
    pub fn error_kind(mut self, kind: &str) -> Self {
        kind.clone_into(&mut self.extra.error_kind);
        self
    }

    /// Sets the pod.
    #[must_use]
    pub fn pod_uid(mut self, uid: &PodUid) -> Self {
        uid.as_str().clone_into(&mut self.extra.pod_uid);
        self
    }

    /// Sets the policy.
    #[must_use]
    pub fn policy_uid(mut self, uid: &PolicyUid) -> Self {
        uid.as_str().clone_into(&mut self.extra.policy_uid);
        self
    }

    /// Sets the correlation id.
    #[must_use]
    pub fn correlation_id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.extra.correlation_id);
        self
    }
}
