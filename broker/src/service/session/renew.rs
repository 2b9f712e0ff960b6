//! Renewal: a session's next token. A change of session state, not a revocation.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_limits::{Asker, Limits, SessionAction};
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::session::{Granted, RenewLimits, RenewRefusal, RenewWish, RenewalDecision};
use agentwrit_protocol::{Clock, EntropyError, ErrorCode, Jti, Ttl, UnixSeconds};
use agentwrit_store::session::id_prefix;
use agentwrit_store::{
    Command, DenialDraft, EndReason, EventDraft, Foreseen, Renewal, Result as StoreResult, Session, Store, StoreError,
    Tx,
};
use async_trait::async_trait;

use super::lineage::{StoredLineage, enrich};
use super::renewal_proof::{self, CheckedProof, PresentedProof, ProofRefusal};
use super::token::{Issued, SignError, TokenIssuer};
use crate::config::ScopeCeilings;
use crate::ids::IdGenerator;
use crate::service::authorize::{code_of_end, renewal_code};
use crate::service::error::{Internal, RateLimited, from_internal};
use crate::service::k8s::error::PodRefusal;
use crate::service::k8s::pod_binding;
use crate::service::origin::AuditOrigin;

/// Longest overlap.
const LONGEST_OVERLAP: Ttl = Ttl::seconds(30);
/// Longest idempotency key, bytes.
const LONGEST_KEY: usize = 128;

/// What an attested agent may ask of a renewal. Of others nothing is looked at: theirs is the default.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wishes {
    overlap: Ttl,
    key: Option<String>,
    proof: PresentedProof,
}

/// What is wrong with the wishes for a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WishError {
    #[error("overlap_seconds {0} must be from 0 to {LONGEST_OVERLAP}")]
    Overlap(i64),
    #[error("Idempotency-Key must be 1 to {LONGEST_KEY} visible ASCII characters")]
    Key,
}

impl Wishes {
    /// Checks what was asked for: how many seconds the predecessor goes on, the key that makes a retry safe (an empty
    /// one means one that is no text), and the proof of possession.
    pub(crate) fn new(overlap_seconds: i64, key: Option<&str>, proof: PresentedProof) -> Result<Self, WishError> {
        let overlap = Ttl::seconds(overlap_seconds);
        if !(Ttl::ZERO..=LONGEST_OVERLAP).contains(&overlap) {
            return Err(WishError::Overlap(overlap_seconds));
        }
        if key.is_some_and(|key| !(1..=LONGEST_KEY).contains(&key.len())) {
            return Err(WishError::Key);
        }
        Ok(Self {
            overlap,
            key: key.map(str::to_owned),
            proof,
        })
    }
}

/// Why a token is not renewed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewError {
    #[error("token renewal failed")]
    Failed,
    /// The session has ended, or a renewal has replaced the token; with the code on the wire.
    #[error("token has been revoked")]
    Revoked(ErrorCode),
    #[error("{refusal}")]
    Proof {
        /// What is wrong with the proof.
        refusal: ProofRefusal,
        /// The time that it was judged by.
        judged_at: UnixSeconds,
    },
    #[error("{}", .0.detail)]
    Policy(PodRefusal),
    #[error(transparent)]
    Rate(RateLimited),
    #[error(transparent)]
    Internal(#[from] Internal),
}

from_internal!(RenewError: StoreError, EntropyError, SignError);

/// Renews the tokens of agents.
pub(crate) struct Renewer<'a> {
    pub(crate) store: &'a Store,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) ids: &'a IdGenerator,
    pub(crate) tokens: &'a TokenIssuer,
    pub(crate) rates: &'a Arc<Limits>,
    pub(crate) limits: RenewLimits,
    pub(crate) ceilings: &'a Arc<ScopeCeilings>,
}

impl Renewer<'_> {
    pub(crate) async fn renew(
        &self,
        claims: &Claims,
        wishes: Wishes,
        origin: AuditOrigin<'_>,
    ) -> Result<Issued, RenewError> {
        let node = claims.delegation_nodes.last().unwrap_or(&claims.sid);
        let command = Renew {
            proof: renewal_proof::check_if_needed(self.store, self.clock, claims, &wishes.proof).await?,
            bearer: claims.clone(),
            wishes,
            jti: self.ids.random_id(id_prefix(node))?,
            rates: Arc::clone(self.rates),
            limits: self.limits,
            ceilings: Arc::clone(self.ceilings),
            path: origin.resource.to_owned(),
            source: origin.source.to_string(),
        };
        match self.store.commit(command).await? {
            Decision::Renewed(claims) => Ok(self.tokens.sign(&claims)?),
            Decision::Failed => Err(RenewError::Failed),
            Decision::Ended(reason) => Err(RenewError::Revoked(renewal_code(claims, code_of_end(reason)))),
            Decision::Replaced => Err(RenewError::Revoked(renewal_code(claims, ErrorCode::Superseded))),
            Decision::Unproven(refusal) => Err(RenewError::Proof {
                refusal,
                judged_at: self.clock.unix_seconds(),
            }),
            Decision::Policy(refusal) => Err(RenewError::Policy(refusal)),
            Decision::Rate(limited) => Err(RenewError::Rate(limited)),
        }
    }
}

enum Decision {
    /// Now, or by an earlier try of this renewal.
    Renewed(Box<Claims>),
    Failed,
    Ended(EndReason),
    Replaced,
    Unproven(ProofRefusal),
    Policy(PodRefusal),
    Rate(RateLimited),
}

struct Renew {
    proof: CheckedProof,
    bearer: Claims,
    wishes: Wishes,
    jti: Jti,
    rates: Arc<Limits>,
    limits: RenewLimits,
    ceilings: Arc<ScopeCeilings>,
    path: String,
    source: String,
}

impl Renew {
    /// The bearer's claims with the session's current token in place of its own.
    fn current(&self, jti: &Jti, iat: UnixSeconds, exp: UnixSeconds) -> Box<Claims> {
        Box::new(Claims {
            jti: jti.clone(),
            iat,
            nbf: iat,
            exp,
            ..self.bearer.clone()
        })
    }

    fn refuse(&self, tx: &mut dyn Tx, lineage: Option<&StoredLineage>, event: DenialDraft, error_kind: &str) {
        let event = enrich(event, &self.bearer, lineage);
        tx.deny(
            Asker::bearer(&self.bearer),
            event
                .actor(&self.bearer.sub)
                .source(&self.source)
                .error_kind(error_kind),
        );
    }

    fn refuse_by_rule(&self, tx: &mut dyn Tx, lineage: &StoredLineage, refusal: RenewRefusal) -> Decision {
        let revoked = |kind: &str| {
            let event = DenialDraft::denied(EventType::TokenRevokedAccess, format!("token has been revoked: {kind}"));
            event.resource(&self.path)
        };
        let failed = |detail: String| DenialDraft::denied(EventType::TokenRenewalFailed, detail);
        let (event, kind, decision) = match refusal {
            RenewRefusal::Ended(reason) => (revoked(reason.as_str()), reason.as_str(), Decision::Ended(reason)),
            // On its way out, superseded with an overlap: not carried on.
            RenewRefusal::Ending(reason) => {
                let detail = format!("session is ending: {}", reason.as_str());
                (failed(detail), reason.as_str(), Decision::Ended(reason))
            }
            RenewRefusal::Replaced => (revoked("renewed"), "renewed", Decision::Replaced),
            RenewRefusal::TooOld => {
                let detail = format!(
                    "session is older than AA_MAX_SESSION_AGE={}",
                    self.limits.max_session_age
                );
                (failed(detail), "session_too_old", Decision::Failed)
            }
        };
        self.refuse(tx, Some(lineage), event, kind);
        decision
    }

    async fn decide(&self, tx: &mut dyn Tx) -> StoreResult<Decision> {
        let Some(lineage) = StoredLineage::of(tx, &self.bearer).await? else {
            let event = DenialDraft::denied(EventType::TokenRenewalFailed, "session unknown");
            self.refuse(tx, None, event, "session_unknown");
            return Ok(Decision::Failed);
        };
        if let Some(refusal) = self.proof.refusal(&lineage) {
            let event = DenialDraft::denied(EventType::TokenRenewalFailed, refusal.to_string());
            self.refuse(tx, Some(&lineage), event, refusal.code().as_str());
            return Ok(Decision::Unproven(refusal));
        }
        let honoured = lineage.root().attested.is_some();
        let wish = RenewWish {
            overlap: if honoured {
                self.wishes.overlap.duration()
            } else {
                Duration::ZERO
            },
            key: self.wishes.key.as_deref(),
            retries: honoured,
        };
        let node = &lineage.node;
        let granted = match lineage
            .rules()
            .renew(&self.bearer.jti, tx.now_millis(), wish, self.limits)
        {
            RenewalDecision::Refused(refusal) => return Ok(self.refuse_by_rule(tx, &lineage, refusal)),
            RenewalDecision::Again => return Ok(Decision::Renewed(self.current(&node.jti, node.iat, node.exp))),
            RenewalDecision::Granted(granted) => granted,
        };
        if let Some(refusal) = pod_binding::check_renew(tx, &self.ceilings, lineage.root(), &self.bearer).await? {
            let event = DenialDraft::denied(EventType::TokenRenewalFailed, refusal.detail.as_str());
            self.refuse(tx, Some(&lineage), event, refusal.error_kind);
            return Ok(Decision::Policy(refusal));
        }
        if let Err(retry_after) = self.rates.check_rate(SessionAction::Renew, &self.bearer) {
            let event = DenialDraft::denied(EventType::TokenRenewalFailed, "the session renews too often");
            self.refuse(tx, Some(&lineage), event, "renewal_rate");
            return Ok(Decision::Rate(RateLimited { retry_after }));
        }
        self.succeed(tx, &lineage, granted).await
    }

    async fn succeed(&self, tx: &mut dyn Tx, lineage: &StoredLineage, granted: Granted) -> StoreResult<Decision> {
        let session: &Session = &lineage.node;
        let previous = Renewal {
            jti: session.jti.clone(),
            until: granted.predecessor_until,
            exp: session.exp,
            key: self.wishes.key.clone().filter(|_| lineage.root().attested.is_some()),
        };
        let (iat, exp) = (granted.iat, granted.exp);
        if !tx.renew_session(session, &self.jti, iat, exp, &previous).await? {
            return Ok(Decision::Replaced);
        }
        let detail = format!("token {} renewed as {} for {} s", session.jti, self.jti, exp - iat);
        let event = lineage.enrich(EventDraft::success(EventType::TokenRenewed, detail));
        tx.audit(event.actor(&self.bearer.sub).source(&self.source));
        Ok(Decision::Renewed(self.current(&self.jti, iat, exp)))
    }
}

#[async_trait]
impl Command for Renew {
    type Outcome = Decision;
    const ISSUES: bool = true;

    fn foresees(&self) -> Vec<Foreseen> {
        StoredLineage::foreseen(&self.bearer)
    }

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<Decision> {
        self.decide(tx).await
    }
}
