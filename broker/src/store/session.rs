//! Sessions: what a registration opens, a renewal moves on, and release or revocation ends.

use agentwrit_protocol::audit::ExtraFields;
use async_trait::async_trait;

use super::launch::Attested;
use super::{Result, StoreError};

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// The agent gave its token back.
    Released,
    /// A person revoked it.
    Revoked,
    /// A later registration of the same pod took over.
    Superseded,
    /// The policy no longer covers it.
    PolicyChanged,
    /// Its AgentApp or LaunchToken is suspended.
    Suspended,
    /// Its policy is gone.
    PolicyRemoved,
    /// Its pod is gone.
    PodEnded,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Released,
        Self::Revoked,
        Self::Superseded,
        Self::PolicyChanged,
        Self::Suspended,
        Self::PolicyRemoved,
        Self::PodEnded,
    ];

    /// The reason in the store and in audit details.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Revoked => "revoked",
            Self::Superseded => "superseded",
            Self::PolicyChanged => "policy_changed",
            Self::Suspended => "suspended",
            Self::PolicyRemoved => "policy_removed",
            Self::PodEnded => "pod_ended",
        }
    }

    /// Reads a stored reason.
    ///
    /// # Errors
    /// When the store holds another word.
    pub fn from_stored(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .ok_or_else(|| StoreError::Corrupt {
                what: "session end reason",
                why: format!("{text:?}"),
            })
    }
}

/// A session as stored; its tokens carry `sid`.
#[derive(Debug, Clone)]
pub struct Session {
    /// Session id, 32 lower-hex characters.
    pub sid: String,
    /// SPIFFE id of the agent.
    pub agent_id: String,
    /// Orchestration.
    pub orch_id: String,
    /// Task; the pod's UID for attested agents.
    pub task_id: String,
    /// Granted scopes, as requested.
    pub scope: Vec<String>,
    /// Id of the current token.
    pub jti: String,
    /// Issue of the current token, Unix seconds.
    pub iat: i64,
    /// Last second of the current token, Unix time.
    pub exp: i64,
    /// The token before.
    pub previous: Option<Renewal>,
    /// When the session was opened, Unix milliseconds.
    pub created_at: i64,
    /// When it ended or will end, Unix milliseconds.
    pub ended_at: Option<i64>,
    /// Why it ended.
    pub end_reason: Option<EndReason>,
    /// Made at launch; empty for agents launched by people.
    pub correlation_id: String,
    /// The pod it belongs to.
    pub attested: Option<Attested>,
}

/// The direct predecessor of a session's current token.
#[derive(Debug, Clone)]
pub struct Renewal {
    /// Its id.
    pub jti: String,
    /// Until when it still stands, Unix milliseconds.
    pub until: i64,
    /// Its last second, Unix time.
    pub exp: i64,
    /// The Idempotency-Key of the renewal.
    pub key: Option<String>,
}

impl Session {
    /// Whether the session has ended at this moment (Unix milliseconds).
    pub fn ended(&self, now_millis: i64) -> Option<EndReason> {
        match (self.ended_at, self.end_reason) {
            (Some(at), Some(reason)) if at <= now_millis => Some(reason),
            _ => None,
        }
    }

    /// The extra fields that every event of this session carries.
    pub fn extra(&self) -> ExtraFields {
        let mut extra = ExtraFields {
            correlation_id: self.correlation_id.clone(),
            ..ExtraFields::default()
        };
        if let Some(attested) = &self.attested {
            extra.pod_uid.clone_from(&attested.pod_uid);
            extra.policy_uid.clone_from(&attested.policy_uid);
        }
        extra
    }

    /// The last second of any of its tokens, Unix time.
    pub fn last_exp(&self) -> i64 {
        self.previous
            .as_ref()
            .map_or(self.exp, |previous| previous.exp.max(self.exp))
    }
}

/// Repository of sessions. "Live" means: not ended yet, and the current token has not expired; a session that is to end
/// in a moment, because a later one superseded it, is still live.
#[async_trait]
pub trait Sessions {
    /// Opens one.
    async fn insert_session(&mut self, session: &Session) -> Result<()>;
    /// The one with this id, ended ones included while they are kept.
    async fn session(&mut self, sid: &str) -> Result<Option<Session>>;
    /// Puts a new current token in place of `session.jti`; false when that is no longer the current one.
    async fn renew_session(
        &mut self,
        session: &Session,
        jti: &str,
        iat: i64,
        exp: i64,
        previous: &Renewal,
    ) -> Result<bool>;
    /// Ends a session at `effective_at` (Unix milliseconds, may be in the future) and tells the view.
    /// False when it has ended already, or ends no later for a reason of its own.
    async fn end_session(&mut self, session: &Session, reason: EndReason, effective_at: i64) -> Result<bool>;
    /// Live sessions that a LaunchToken object opened.
    async fn live_sessions_by_policy(&mut self, policy_uid: &str) -> Result<Vec<Session>>;
    /// Live sessions of a pod.
    async fn live_sessions_by_pod(&mut self, pod_uid: &str) -> Result<Vec<Session>>;
    /// Live sessions of an orchestration (`k8s.<namespace>.<app>` for those of an AgentApp).
    async fn live_sessions_by_orch(&mut self, orch_id: &str) -> Result<Vec<Session>>;
    /// Sessions of an agent whose tokens still stand: live, or superseded with an overlap that is not over.
    async fn standing_sessions_by_agent(&mut self, agent_id: &str) -> Result<Vec<Session>>;
    /// Sessions of a task whose tokens still stand.
    async fn standing_sessions_by_task(&mut self, task_id: &str) -> Result<Vec<Session>>;
    /// The session whose current token, or predecessor in overlap, has this id and still stands.
    async fn standing_session_by_jti(&mut self, jti: &str) -> Result<Option<Session>>;
    /// All live sessions of attested pods.
    async fn live_attested_sessions(&mut self) -> Result<Vec<Session>>;
    /// How many sessions are live.
    async fn count_live_sessions(&mut self) -> Result<i64>;
}
