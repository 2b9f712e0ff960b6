//! Renewal: a session's next token. A change of session state, not a revocation.

use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::claims::{Claims, SubjectKind};
use agentwrit_protocol::{EntropyError, ErrorCode};
use async_trait::async_trait;

use super::attested::{self, Refusal};
use super::token::{Issued, SignError, sign};
use crate::broker::Broker;
use crate::store::{Command, EndReason, EventDraft, Renewal, Result as StoreResult, Session, StoreError, Tx};
use crate::view::ViewChange;

/// How long a renewal can be asked for again with its key, milliseconds.
const REPLAY_MILLIS: i64 = 60_000;
/// Longest overlap, seconds.
pub const LONGEST_OVERLAP: i64 = 30;

/// What an attested agent may ask of a renewal.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// How long the predecessor still stands, seconds.
    pub overlap_seconds: i64,
    /// Makes a retry safe.
    pub key: Option<String>,
}

/// Why a token is not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// Admin and app tokens log in again instead.
    #[error("only tokens of agents can be renewed")]
    Subject,
    /// The session is too old, or unknown.
    #[error("token renewal failed")]
    Failed,
    /// The session has ended.
    #[error("token has been revoked")]
    Ended(EndReason),
    /// A renewal has replaced the token.
    #[error("token has been revoked")]
    Replaced,
    /// What the policy says.
    #[error("{}", .0.detail)]
    Policy(Refusal),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The token can't be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// Renews a bearer's token.
///
/// # Errors
/// When the session does not go on, or another renewal was first.
pub async fn renew(
    broker: &Broker,
    claims: &Claims,
    wishes: Wishes,
    path: &str,
    source: &str,
) -> Result<Issued, RenewError> {
    if claims.subject_kind() != SubjectKind::Agent {
        return Err(RenewError::Subject);
    }
    let command = Renew {
        bearer: claims.clone(),
        wishes,
        jti: broker.random_hex::<16>()?,
        max_ttl: broker.config.max_ttl,
        max_age: broker.config.max_session_age,
        path: path.to_owned(),
        source: source.to_owned(),
    };
    match broker.store.commit(command).await? {
        Decision::Renewed(claims) | Decision::Again(claims) => Ok(sign(broker, &claims)?),
        Decision::Failed => Err(RenewError::Failed),
        Decision::Ended(reason) => Err(RenewError::Ended(reason)),
        Decision::Replaced => Err(RenewError::Replaced),
        Decision::Policy(refusal) => Err(RenewError::Policy(refusal)),
    }
}

enum Decision {
    Renewed(Box<Claims>),
    Again(Box<Claims>),
    Failed,
    Ended(EndReason),
    Replaced,
    Policy(Refusal),
}

struct Renew {
    bearer: Claims,
    wishes: Wishes,
    jti: String,
    max_ttl: i64,
    max_age: i64,
    path: String,
    source: String,
}

impl Renew {
    /// The bearer's claims with the session's current token in place of its own.
    fn current(&self, jti: &str, iat: i64, exp: i64) -> Box<Claims> {
        Box::new(Claims {
            jti: jti.to_owned(),
            iat,
            nbf: iat,
            exp,
            ..self.bearer.clone()
        })
    }

    fn refuse(&self, tx: &mut dyn Tx, session: Option<&Session>, kind: EventType, reason: &str, error_kind: &str) {
        let bearer = &self.bearer;
        let event = EventDraft::denied(kind, reason).ids(&bearer.sub, &bearer.task_id, &bearer.orch_id);
        let event = match session {
            Some(session) => event.of_session(session),
            None => event,
        };
        tx.audit(
            event
                .resource(&self.path)
                .actor(&bearer.sub)
                .source(&self.source)
                .error_kind(error_kind),
        );
    }

    /// Whether this is a retry of the renewal that made the current token.
    fn is_retry(&self, session: &Session, now_millis: i64) -> bool {
        let renewed_at = session.iat.saturating_mul(1000);
        session.attested.is_some()
            && self.wishes.key.is_some()
            && now_millis.saturating_sub(renewed_at) <= REPLAY_MILLIS
            && session.previous.as_ref().is_some_and(|previous| {
                previous.jti == self.bearer.jti
                    && previous.key == self.wishes.key
                    && now_millis < ViewChange::end_of_second(previous.exp)
            })
    }

    async fn decide(&self, tx: &mut dyn Tx) -> StoreResult<Decision> {
        let Some(session) = tx.session(&self.bearer.sid).await? else {
            self.refuse(
                tx,
                None,
                EventType::TokenRenewalFailed,
                "session unknown",
                "session_unknown",
            );
            return Ok(Decision::Failed);
        };
        let (now, seconds) = (tx.now_millis(), tx.now_seconds());
        if let Some(reason) = session.ended(now) {
            let detail = format!("token has been revoked: {}", reason.as_str());
            self.refuse(
                tx,
                Some(&session),
                EventType::TokenRevokedAccess,
                &detail,
                reason.as_str(),
            );
            return Ok(Decision::Ended(reason));
        }
        // A session on its way out, superseded with an overlap, is not carried on.
        if let Some(reason) = session.end_reason {
            let detail = format!("session is ending: {}", reason.as_str());
            self.refuse(
                tx,
                Some(&session),
                EventType::TokenRenewalFailed,
                &detail,
                reason.as_str(),
            );
            return Ok(Decision::Ended(reason));
        }
        if session.jti != self.bearer.jti {
            if self.is_retry(&session, now) {
                return Ok(Decision::Again(self.current(&session.jti, session.iat, session.exp)));
            }
            let detail = "token has been revoked: renewed";
            self.refuse(tx, Some(&session), EventType::TokenRevokedAccess, detail, "renewed");
            return Ok(Decision::Replaced);
        }
        let oldest = session.created_at.saturating_add(self.max_age.saturating_mul(1000));
        if self.max_age > 0 && now >= oldest {
            let detail = format!("session is older than AA_MAX_SESSION_AGE={}", self.max_age);
            self.refuse(
                tx,
                Some(&session),
                EventType::TokenRenewalFailed,
                &detail,
                "session_too_old",
            );
            return Ok(Decision::Failed);
        }
        if let Some(refusal) = attested::check_renew(tx, &session).await? {
            self.refuse(
                tx,
                Some(&session),
                EventType::TokenRenewalFailed,
                &refusal.detail,
                refusal.error_kind,
            );
            return Ok(Decision::Policy(refusal));
        }
        self.go_on(tx, &session, now, seconds).await
    }

    async fn go_on(&self, tx: &mut dyn Tx, session: &Session, now: i64, seconds: i64) -> StoreResult<Decision> {
        let mut ttl = session.exp.saturating_sub(session.iat);
        if self.max_ttl > 0 {
            ttl = ttl.min(self.max_ttl);
        }
        let exp = seconds.saturating_add(ttl);
        let overlap = if session.attested.is_some() {
            self.wishes.overlap_seconds
        } else {
            0
        };
        let previous = Renewal {
            jti: session.jti.clone(),
            until: now
                .saturating_add(overlap.saturating_mul(1000))
                .min(ViewChange::end_of_second(session.exp)),
            exp: session.exp,
            key: self.wishes.key.clone().filter(|_| session.attested.is_some()),
        };
        if !tx.renew_session(session, &self.jti, seconds, exp, &previous).await? {
            return Ok(Decision::Replaced);
        }
        let detail = format!("token {} renewed as {} for {ttl} s", session.jti, self.jti);
        let event = EventDraft::success(EventType::TokenRenewed, detail).of_session(session);
        tx.audit(event.actor(&self.bearer.sub).source(&self.source));
        Ok(Decision::Renewed(self.current(&self.jti, seconds, exp)))
    }
}

#[async_trait]
impl Command for Renew {
    type Outcome = Decision;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<Decision> {
        self.decide(tx).await
    }
}

impl RenewError {
    /// The code for a token of another than an attested agent.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Subject | Self::Ended(_) | Self::Replaced => ErrorCode::InsufficientScope,
            Self::Failed => ErrorCode::Unauthorized,
            Self::Policy(refusal) => refusal.code,
            Self::Store(_) => ErrorCode::Unavailable,
            Self::Entropy(_) | Self::Sign(_) => ErrorCode::InternalError,
        }
    }
}
