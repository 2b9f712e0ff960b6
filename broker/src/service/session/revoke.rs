//! Revocation by a person, at four levels.

use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::excerpt::excerpt;
use agentwrit_protocol::session::PodBehind;
use agentwrit_protocol::{Ttl, UnixMillis};
use agentwrit_store::{
    Command, EndReason, EventDraft, MetaKey, Result as StoreResult, Revocation, RevocationLevel, Session, Store,
    StoreError, TakesAuthority, Tx,
};
use async_trait::async_trait;
use prometheus::IntCounterVec;

use crate::service::actor::Actor;
use crate::service::k8s::quarantine;

pub(crate) use crate::service::k8s::quarantine::Reach;

/// Longest target, characters; no SPIFFE id has more than 2048.
const LONGEST_TARGET: usize = 16 * 1024;

/// Why nothing is revoked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevokeError {
    #[error("invalid revocation level: {0:?} must be token, agent, task or chain")]
    Level(String),
    /// Revoking these subjects would shut out every admin, or an app for good.
    #[error("target {0:?} can't be revoked at level agent: revoke its tokens instead")]
    Protected(String),
    /// Longer than anything that can be revoked; how long it is.
    #[error("target of {0} characters is too long: it must be at most {LONGEST_TARGET}")]
    Length(usize),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Revokes tokens for persons.
pub(crate) struct Revoker<'a> {
    pub(crate) store: &'a Store,
    pub(crate) counted: &'a IntCounterVec,
    /// Whether the pod that a target leads to is quarantined even without a live session: with attestation on.
    pub(crate) by_identity: bool,
}

impl Revoker<'_> {
    pub(crate) async fn revoke(&self, level: &str, target: &str, actor: Actor) -> Result<Reach, RevokeError> {
        let level = RevocationLevel::from_text(level).ok_or_else(|| RevokeError::Level(excerpt(level)))?;
        if level == RevocationLevel::Agent && (target == "admin" || target.starts_with("app:")) {
            return Err(RevokeError::Protected(excerpt(target)));
        }
        let length = target.chars().count();
        if length > LONGEST_TARGET {
            return Err(RevokeError::Length(length));
        }
        let command = Revoke {
            by_identity: self.by_identity,
            level,
            target: target.to_owned(),
            actor,
        };
        let reach = self.store.commit(command).await?;
        self.counted.with_label_values(&[level.as_str()]).inc();
        Ok(reach)
    }
}

#[derive(Clone)]
struct Revoke {
    by_identity: bool,
    level: RevocationLevel,
    target: String,
    actor: Actor,
}

impl Revoke {
    /// The live sessions that end by it. Why a token that is presented later is refused is decided by
    /// [`RevocationLevel::hits`].
    async fn sessions_hit(&self, tx: &mut dyn Tx) -> StoreResult<Vec<Session>> {
        match self.level {
            RevocationLevel::Token => {
                let jti = self.target.as_str().into();
                Ok(tx.standing_session_by_jti(&jti).await?.into_iter().collect())
            }
            RevocationLevel::Agent => tx.standing_sessions_by_agent(&self.target).await,
            RevocationLevel::Task => tx.standing_sessions_by_task(&self.target.as_str().into()).await,
            // Hits what the target delegated, never the target's own session.
            RevocationLevel::Chain => match tx.session_of_agent(&self.target).await? {
                Some(session) => tx.standing_delegations_of(&session).await,
                None => Ok(Vec::new()),
            },
        }
    }

    /// When the last token that this can hit has expired.
    async fn until(&self, tx: &mut dyn Tx, sessions: &[Session]) -> StoreResult<Option<UnixMillis>> {
        if let (RevocationLevel::Token, Some(session)) = (self.level, sessions.first()) {
            return Ok(Some(session.last_exp.end()));
        }
        let longest = tx
            .meta(MetaKey::LongestTtl)
            .await?
            .and_then(|text| text.parse().ok())
            .map(Ttl::seconds)
            .unwrap_or_default();
        let end = (tx.times().judged.second() + longest).end();
        Ok(longest.is_positive().then_some(end))
    }
}

#[async_trait]
impl Command for Revoke {
    type Outcome = Reach;
    const TAKES_AUTHORITY: TakesAuthority<Self> = TakesAuthority::Again(Self::clone);

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<Reach> {
        let sessions = self.sessions_hit(tx).await?;
        let until = self.until(tx, &sessions).await?;
        let target = self.target.clone();
        tx.add_revocation(&Revocation {
            level: self.level,
            target,
            until,
        })
        .await?;
        if self.level == RevocationLevel::Agent {
            tx.bar_agent(&self.target).await?;
        }
        let now = tx.now_millis();
        let mut reach = Reach::default();
        for session in &sessions {
            let ended = tx.end_session(session, EndReason::Revoked, now).await?;
            reach.sessions_ended = reach.sessions_ended.saturating_add(i64::from(ended));
        }
        let detail = format!("revoked at level {}: {}", self.level.as_str(), self.target);
        let mut event = EventDraft::success(EventType::TokenRevoked, detail);
        if let [session] = sessions.as_slice() {
            event = event.within_session(session);
        }
        tx.audit(self.actor.attributed(event.agent(&self.target)));
        let target = self.by_identity.then(|| PodBehind::of(self.level, &self.target));
        for pod in quarantine::pods_behind(tx, &sessions, target).await? {
            let ended = quarantine::quarantine(tx, &pod, &self.actor).await?;
            reach.sessions_ended = reach.sessions_ended.saturating_add(ended);
            reach.pods_quarantined = reach.pods_quarantined.saturating_add(1);
        }
        Ok(reach)
    }
}
