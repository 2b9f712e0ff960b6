//! Sessions and delegations: what a registration or a delegation opens, a renewal moves on, and release or revocation
//! ends. The rules are in `protocol::session`.

use agentwrit_protocol::audit::ExtraFields;
use agentwrit_protocol::session::{End, Node, Previous};
use agentwrit_protocol::status_list::{FREE_AFTER, StatusIndex};
use agentwrit_protocol::{Jti, OrchId, PodUid, PolicyUid, SessionId, TaskId, Ttl, UnixMillis, UnixSeconds};
use async_trait::async_trait;

use super::launch::Attested;
use super::stored_json::to_json;
use super::{FromStored, Result, TxClock, ViewChange};

pub use agentwrit_protocol::session::EndReason;

impl FromStored for EndReason {
    const WHAT: &'static str = "session end reason";

    fn from_text(text: &str) -> Option<Self> {
        Self::from_text(text)
    }
}

/// Length of the id prefix: the first characters that the id of a session or delegation shares with the jti of each of
/// its tokens and, for a session, with the instance of its agent's SPIFFE id. By it a row is found from any of the three
/// through one index. It begins with the time, so that rows of one time are neighbours there; 44 bits are random.
pub const ID_PREFIX: usize = 16;

/// Digits of the time at the beginning of an id prefix.
pub const ID_TIME_DIGITS: usize = 5;
/// Digits of the pod's UID that follow the time in the ids of a pod's session: by them the pod of a token is found for as
/// long as the pod is there, however long ago the token was, and without a row for each session. 12 bits are random then.
const POD_MARK: usize = 8;

/// The digits of this pod in the ids of its sessions. Kubernetes' UIDs are random, and 32 bits tell pods apart: where two
/// pods of one time have the same digits, or an id of no pod has them by chance, a kept session decides, else all of them
/// are taken. `None` for a UID that does not consist of hexadecimal digits and `-`.
pub fn pod_mark(uid: &PodUid) -> Option<&str> {
    let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    let mark = uid.get(..POD_MARK)?;
    (mark.bytes().all(digit) && uid.bytes().all(|b| digit(b) || b == b'-')).then_some(mark)
}

/// Where an id has the mark of its pod, if it is of a pod's session.
pub fn mark_in(id: &str) -> &str {
    id.get(ID_TIME_DIGITS..ID_TIME_DIGITS + POD_MARK).unwrap_or_default()
}

/// The prefix of an id; empty when it is shorter.
pub fn id_prefix(id: &str) -> &str {
    id.get(..ID_PREFIX).unwrap_or_default()
}

/// The moment of a predecessor that has no overlap.
pub const AT_ONCE: UnixMillis = UnixMillis::new(0);

/// How long a row is kept after its last token's end, so that its end can be looked up.
pub const KEPT: Ttl = Ttl::seconds(25 * 3600);
/// `kept_until` is a multiple of so many seconds: a renewal that doesn't move it touches no index.
const KEPT_STEP: i64 = 3600;

/// Until when a row is kept at least.
pub fn kept_until(last_exp: UnixSeconds) -> UnixSeconds {
    let steps = (last_exp + KEPT).get().div_euclid(KEPT_STEP) + 1;
    UnixSeconds::new(steps.saturating_mul(KEPT_STEP))
}

/// Rows that are kept until this second or less hold no status index any more: the last of their tokens is long expired.
pub fn freed_until(passed: UnixMillis) -> UnixSeconds {
    let steps = (passed.second() + KEPT - FREE_AFTER).get().div_euclid(KEPT_STEP);
    UnixSeconds::new(steps.saturating_mul(KEPT_STEP))
}

/// The id prefix of the session of this agent; `None` when it is the id of no agent.
pub fn id_prefix_of_agent(agent_id: &str) -> Option<&str> {
    let (_, instance) = agent_id.rsplit_once('/')?;
    (instance.len() == ID_PREFIX).then_some(instance)
}

/// A session, or a delegation under one, as stored.
#[derive(Debug, Clone)]
pub struct Session {
    /// Id: of a session 32 lower-hex characters, the claim `sid`; of a delegation 48, the last of `delegation_nodes`.
    /// It begins with its [`id_prefix`].
    pub sid: SessionId,
    /// SPIFFE id of the agent.
    pub agent_id: String,
    /// Orchestration.
    pub orch_id: OrchId,
    /// Task; the pod's UID for attested agents.
    pub task_id: TaskId,
    /// Granted scopes, as requested; none for a delegation, whose token has them, nor for a pod's session some time after
    /// its end.
    pub scope: Vec<String>,
    /// Id of the current token.
    pub jti: Jti,
    /// Issue of the current token.
    pub iat: UnixSeconds,
    /// Last second of the current token.
    pub exp: UnixSeconds,
    /// Last second of any token that it ever had.
    pub last_exp: UnixSeconds,
    /// The token before.
    pub previous: Option<Renewal>,
    /// When the session was opened.
    pub created_at: UnixMillis,
    /// When it ended or will end.
    pub ended_at: Option<UnixMillis>,
    /// Why it ended.
    pub end_reason: Option<EndReason>,
    /// Made at launch; empty for agents launched by people.
    pub correlation_id: String,
    /// The pod it belongs to.
    pub attested: Option<Attested>,
    /// Where it hangs, when it is a delegation.
    pub delegated: Option<Delegated>,
    /// A person revoked its agent: nothing may be delegated to it any more.
    pub barred: bool,
    /// Its index in the status lists, given by the store; `None` before, and in a row of an earlier schema until its next
    /// renewal.
    pub status: Option<StatusIndex>,
}

/// Where a delegation hangs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegated {
    /// The session's id.
    pub root: SessionId,
    /// Ids of the delegations from the session to this one, itself last.
    pub nodes: Vec<SessionId>,
    /// Last second of the delegating token: no token of this delegation outlives it.
    pub ceiling: UnixSeconds,
    /// UID of the pod of the agent that holds it, for an attested one: what a pod was given ends with it.
    pub holder_pod: Option<PodUid>,
}

impl Delegated {
    /// The id of what it hangs under: a delegation, or the session itself.
    pub fn above(&self) -> &SessionId {
        self.nodes.iter().rev().nth(1).unwrap_or(&self.root)
    }
}

/// The moments of an end, on the clock that is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    /// Why.
    pub reason: EndReason,
    /// The end of its overlap; `None` when it has none.
    pub overlap_until: Option<UnixMillis>,
    /// When it ends.
    pub ended_at: UnixMillis,
    /// From when on the bits are set.
    pub set_at: UnixMillis,
}

impl Ending {
    /// Of an end at this moment of the wall clock. Only a superseded session has an overlap.
    pub fn new(clock: &impl TxClock, reason: EndReason, effective_at: UnixMillis) -> Self {
        let overlap_until = match reason {
            EndReason::Superseded => overlap_until(clock, effective_at),
            _ => None,
        };
        Self {
            reason,
            overlap_until,
            ended_at: overlap_until.unwrap_or(clock.times().judged),
            set_at: overlap_until.unwrap_or(AT_ONCE),
        }
    }
}

/// An overlap that the wall clock was asked about, on the clock that is judged by; `None` when there is none.
pub fn overlap_until(clock: &impl TxClock, wall: UnixMillis) -> Option<UnixMillis> {
    let overlap = wall.since(clock.now_millis());
    (!overlap.is_zero()).then(|| clock.times().judged + overlap)
}

/// The direct predecessor of a session's current token.
#[derive(Debug, Clone)]
pub struct Renewal {
    /// Its id.
    pub jti: Jti,
    /// Until when it is still valid.
    pub until: UnixMillis,
    /// Its last second.
    pub exp: UnixSeconds,
    /// The Idempotency-Key of the renewal.
    pub key: Option<String>,
}

impl Session {
    /// The session that it belongs to, and, of a delegation, how the stored list of nodes of each that descends from it
    /// begins.
    ///
    /// # Errors
    /// When the list can't be written as JSON.
    pub fn family(&self) -> Result<(&SessionId, Option<String>)> {
        let Some(delegated) = &self.delegated else {
            return Ok((&self.sid, None));
        };
        let mut nodes = to_json("delegation nodes", &delegated.nodes)?;
        nodes.pop();
        nodes.push(',');
        Ok((&delegated.root, Some(nodes)))
    }

    /// Whether this is the id of its current token, or of the one before in its overlap.
    pub fn has_token(&self, jti: &Jti, now: UnixMillis) -> bool {
        let before = self.previous.as_ref();
        self.jti == *jti || before.is_some_and(|previous| previous.jti == *jti && previous.until > now)
    }

    /// Whether it is the session that an agent's registration opened.
    pub fn is_own_of(&self, agent_id: &str) -> bool {
        self.agent_id == agent_id && self.delegated.is_none()
    }

    /// What the view is told of its end.
    pub fn ended_change(&self, ending: Ending) -> ViewChange {
        ViewChange::SessionEnded {
            sid: self.sid.clone(),
            reason: ending.reason,
            overlap_until: ending.overlap_until,
            until: self.last_exp.end(),
        }
    }

    /// What the view is told of a new token in place of the one before.
    pub fn renewed_change(
        &self,
        jti: &Jti,
        exp: UnixSeconds,
        previous: &Renewal,
        overlap_until: Option<UnixMillis>,
    ) -> ViewChange {
        ViewChange::Renewed {
            node: self.sid.clone(),
            jti: jti.clone(),
            previous: previous.jti.clone(),
            overlap_until,
            until: exp.max(self.last_exp).end(),
        }
    }

    /// Its end, if there is one. Only supersession leaves an overlap, whose moment counts; any other end holds whatever
    /// the clock says.
    fn end(&self) -> Option<End> {
        let (at, reason) = self.ended_at.zip(self.end_reason)?;
        let at = if reason == EndReason::Superseded {
            at
        } else {
            UnixMillis::MIN
        };
        Some(End { reason, at })
    }

    /// Whether the session has ended at this moment.
    pub fn ended(&self, now: UnixMillis) -> Option<EndReason> {
        self.end().filter(|end| end.at <= now).map(|end| end.reason)
    }

    /// The extra fields that every event of this session carries.
    pub fn extra(&self) -> ExtraFields {
        let mut extra = ExtraFields {
            correlation_id: self.correlation_id.clone(),
            ..ExtraFields::default()
        };
        if let Some(attested) = &self.attested {
            attested.pod_uid.as_str().clone_into(&mut extra.pod_uid);
            attested.policy_uid.as_str().clone_into(&mut extra.policy_uid);
        }
        extra
    }

    /// As the rules see it.
    pub fn node(&self) -> Node<'_> {
        Node {
            jti: &self.jti,
            iat: self.iat,
            exp: self.exp,
            previous: self.previous.as_ref().map(|previous| Previous {
                jti: &previous.jti,
                until: previous.until,
                exp: previous.exp,
                key: previous.key.as_deref(),
            }),
            ceiling: self.delegated.as_ref().map(|delegated| delegated.ceiling),
            opened_at: self.created_at,
            end: self.end(),
        }
    }
}

/// Repository of sessions and delegations. "Live" means: not ended yet, and the current token has not expired; a session that is to end
/// in a moment, because a later one superseded it, is still live.
#[async_trait]
pub trait Sessions {
    /// Opens one, with a status index of its own, which it is told of. A delegation under a session or a delegation that is
    /// to end later gets the moment of its bit from that.
    ///
    /// # Errors
    /// [`StoreError::StatusListsFull`](super::StoreError::StatusListsFull) while the lists are full: see
    /// [`Command::OPENS`](super::Command::OPENS).
    async fn insert_session(&mut self, session: &mut Session) -> Result<()>;
    /// The one with this id, ended ones included while they are kept.
    async fn session(&mut self, sid: &SessionId) -> Result<Option<Session>>;
    /// Puts a new current token in place of `session.jti`; false when that is no longer the current one. An overlap of
    /// the predecessor before ends. A session that has no status index gets one, unless the lists are full.
    async fn renew_session(
        &mut self,
        session: &Session,
        jti: &Jti,
        iat: UnixSeconds,
        exp: UnixSeconds,
        previous: &Renewal,
    ) -> Result<bool>;
    /// Ends a session at `effective_at`, which may be in the future, tells the view, and sets its bit in the status list
    /// and those of all below it that may have tokens which have not expired: from the end of its overlap on, or, when it
    /// has none, whatever the clock says. A bit that is set for an earlier moment stays.
    /// False when it has ended already, or ends no later for a reason of its own.
    async fn end_session(&mut self, session: &Session, reason: EndReason, effective_at: UnixMillis) -> Result<bool>;
    /// Live sessions that a LaunchToken object opened.
    async fn live_sessions_by_policy(&mut self, policy_uid: &PolicyUid) -> Result<Vec<Session>>;
    /// How many pods but this one have live sessions that a LaunchToken object opened; at most `most`.
    async fn count_other_pods(&mut self, policy_uid: &PolicyUid, pod_uid: &PodUid, most: i64) -> Result<i64>;
    /// Live sessions of a pod.
    async fn live_sessions_by_pod(&mut self, pod_uid: &PodUid) -> Result<Vec<Session>>;
    /// Sessions of a pod that may have tokens that have not expired, ended ones included.
    async fn unexpired_sessions_by_pod(&mut self, pod_uid: &PodUid) -> Result<Vec<Session>>;
    /// Sessions of a pod that have not ended, expired ones included.
    async fn unended_sessions_by_pod(&mut self, pod_uid: &PodUid) -> Result<Vec<Session>>;
    /// Removes the scopes of a pod's sessions that have ended: they are not needed any more, and are most of a row.
    async fn forget_scopes_of_pod(&mut self, pod_uid: &PodUid) -> Result<()>;
    /// Delegations to a pod's agents whose tokens are still valid.
    async fn standing_delegations_to_pod(&mut self, pod_uid: &PodUid) -> Result<Vec<Session>>;
    /// Live sessions of an orchestration (`k8s.<namespace>.<app>` for those of an AgentApp).
    async fn live_sessions_by_orch(&mut self, orch_id: &OrchId) -> Result<Vec<Session>>;
    /// The session that an agent's registration opened, ended or not.
    async fn session_of_agent(&mut self, agent_id: &str) -> Result<Option<Session>>;
    /// Notes that a person revoked an agent: see [`Session::barred`].
    async fn bar_agent(&mut self, agent_id: &str) -> Result<()>;
    /// The delegations made by a session or a delegation itself that have not ended.
    async fn standing_delegations_of(&mut self, session: &Session) -> Result<Vec<Session>>;
    /// How many delegations under a session, or only below a delegation by the session itself, have not ended and have
    /// a token that has not expired, at most `most`.
    async fn count_open_delegations(
        &mut self,
        root: &SessionId,
        below: Option<&SessionId>,
        most: usize,
    ) -> Result<usize>;
    /// Sessions of an agent, and delegations to it, whose tokens are still valid: live, or superseded with an overlap that
    /// is not over.
    async fn standing_sessions_by_agent(&mut self, agent_id: &str) -> Result<Vec<Session>>;
    /// Sessions and delegations of a task whose tokens are still valid.
    async fn standing_sessions_by_task(&mut self, task_id: &TaskId) -> Result<Vec<Session>>;
    /// The session or delegation whose current token, or predecessor in overlap, has this id and is still valid.
    async fn standing_session_by_jti(&mut self, jti: &Jti) -> Result<Option<Session>>;
    /// All live sessions of attested pods.
    async fn live_attested_sessions(&mut self) -> Result<Vec<Session>>;
    /// How many sessions are live.
    async fn count_live_sessions(&mut self) -> Result<i64>;
}

#[cfg(test)]
mod tests {
    use agentwrit_protocol::status_list::free_from;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_row_gives_its_index_back_one_to_two_hours_after_its_tokens(
            last_exp in 0_i64..10_000_000, passed_for in -100_000_000_i64..100_000_000
        ) {
            let last_exp = UnixSeconds::new(last_exp);
            let passed = UnixMillis::new(last_exp.end().get() + passed_for);
            let is_given_back = kept_until(last_exp) <= freed_until(passed);
            prop_assert!(!is_given_back || free_from(last_exp) <= passed, "too early");
            prop_assert!(is_given_back || passed < free_from(last_exp) + FREE_AFTER, "too late");
        }
    }
}
