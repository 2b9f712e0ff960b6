//! What the transaction of a delegation decides: the rules, the places under a session, the new node.

use std::sync::Arc;

use agentwrit_limits::{Asker, Limits, Place, SessionAction};
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::claims::{Claims, DelegationRecord};
use agentwrit_protocol::excerpt::{EVENT_SCOPES_BYTES, describe_request, list_scopes};
use agentwrit_protocol::session::{DelegationGrant, DelegationRefusal, EndReason, MAX_DEPTH, chain};
use agentwrit_protocol::{Jti, SessionId, Ttl, UnixSeconds};
use agentwrit_store::{Command, Delegated, DenialDraft, EventDraft, Foreseen, Result as StoreResult, Session, Tx};
use agentwrit_tokens::shared_revocation_view::SharedRevocationView;
use async_trait::async_trait;

use super::lineage::{StoredLineage, enrich};
use super::token::is_born_revoked;
use crate::config::ScopeCeilings;
use crate::service::error::RateLimited;
use crate::service::k8s::pod_binding::pod_denial;
use crate::service::k8s::policy::crossings;

/// Life of a delegated token when none is asked for.
const DEFAULT_TTL: Ttl = Ttl::seconds(60);

/// What is to be passed on, and to whom.
#[derive(Debug)]
pub(crate) struct RequestedDelegation {
    /// SPIFFE id of the delegate; not empty.
    pub(crate) delegate_to: String,
    /// Not empty.
    pub(crate) scope: Vec<String>,
    /// Seconds; 0 and less count as absent.
    pub(crate) ttl: Option<i64>,
}

/// A refusal by a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DelegationDenial {
    #[error("delegation depth limit exceeded")]
    TooDeep,
    #[error("delegated scope exceeds delegator scope")]
    Scope,
    /// The platform's ceiling of the delegate's namespace, or of one that the authority comes from.
    #[error("delegated scope exceeds the ceiling of a namespace that it comes from or goes to")]
    Ceiling,
    /// No such agent, or none that this one may delegate to.
    #[error("delegate agent not found")]
    Unknown,
    #[error(transparent)]
    Rate(RateLimited),
    /// As many delegations are open under the session as may be.
    #[error("{0} delegations stand under this session, which is the most: wait until some expire, or release them")]
    Open(usize),
    /// The same below the delegation by the session itself that the token descends from.
    #[error(
        "{0} delegations stand below this delegate, which is the most for one delegate of a session: wait until some \
         expire, or release them"
    )]
    OpenBelow(usize),
    /// The delegating token has been revoked; the kind for the audit trail.
    #[error("token has been revoked")]
    Revoked(&'static str),
}

/// What the claims alone refuse, in the contract's order.
pub(super) fn refused_by_claims(claims: &Claims, wanted: &RequestedDelegation) -> Option<DelegationDenial> {
    if claims.delegation_chain.len() >= MAX_DEPTH {
        Some(DelegationDenial::TooDeep)
    } else if chain::narrows(&claims.scope, &wanted.scope) {
        None
    } else {
        Some(DelegationDenial::Scope)
    }
}

/// What is made and signed before the transaction.
pub(super) struct Prepared {
    pub(super) jti: Jti,
    pub(super) node: SessionId,
    pub(super) chain: Vec<DelegationRecord>,
    pub(super) chain_hash: String,
}

pub(super) struct Delegate {
    pub(super) bearer: Claims,
    pub(super) wanted: RequestedDelegation,
    /// None when the claims alone refuse, or the delegate can't exist.
    pub(super) prepared: Option<Prepared>,
    pub(super) max_ttl: Ttl,
    pub(super) ceilings: Arc<ScopeCeilings>,
    pub(super) view: Arc<SharedRevocationView>,
    pub(super) limits: Arc<Limits>,
    pub(super) path: String,
    pub(super) source: String,
}

impl Delegate {
    async fn decide(
        &self,
        tx: &mut dyn Tx,
        lineage: &StoredLineage,
    ) -> StoreResult<Result<(DelegationGrant, Session), DelegationDenial>> {
        let bearer = &self.bearer;
        let ttl = self.wanted.ttl.filter(|ttl| *ttl > 0).map_or(DEFAULT_TTL, Ttl::seconds);
        let rules = lineage.rules();
        let granted = match rules.delegate(&bearer.jti, bearer.exp, tx.now_millis(), ttl, self.max_ttl) {
            Ok(granted) => granted,
            Err(DelegationRefusal::Ended(reason)) => return Ok(Err(DelegationDenial::Revoked(reason.as_str()))),
            Err(DelegationRefusal::Replaced) => return Ok(Err(DelegationDenial::Revoked("renewed"))),
            Err(DelegationRefusal::TooDeep) => return Ok(Err(DelegationDenial::TooDeep)),
        };
        if let Some(denial) = refused_by_claims(bearer, &self.wanted) {
            return Ok(Err(denial));
        }
        let Some(holder) = reachable(tx, lineage.root(), &bearer.sub, &self.wanted.delegate_to).await? else {
            return Ok(Err(DelegationDenial::Unknown));
        };
        let agents = [&lineage.root().agent_id, &bearer.sub, &self.wanted.delegate_to];
        if !agents
            .into_iter()
            .all(|agent| self.ceilings.of_agent(agent).allows(&self.wanted.scope))
        {
            return Ok(Err(DelegationDenial::Ceiling));
        }
        if let Err(retry_after) = self.limits.check_rate(SessionAction::Delegate, bearer) {
            return Ok(Err(DelegationDenial::Rate(RateLimited { retry_after })));
        }
        Ok(self.take_places(tx).await?.map(|()| (granted, holder)))
    }

    /// Takes a place below the bearer's branch and one under the session, of those that open delegations may have.
    async fn take_places(&self, tx: &mut dyn Tx) -> StoreResult<Result<(), DelegationDenial>> {
        let below = self.limits.most_below(&self.bearer);
        if let Some((branch, most)) = below
            && !self.take_place(tx, Some(branch), most).await?
        {
            return Ok(Err(DelegationDenial::OpenBelow(most)));
        }
        if let Some(most) = self.limits.most_open(&self.bearer)
            && !self.take_place(tx, None, most).await?
        {
            return Ok(Err(DelegationDenial::Open(most)));
        }
        Ok(Ok(()))
    }

    /// Takes one of so many places, below a delegation or of all under the session; whether there was one.
    async fn take_place(&self, tx: &mut dyn Tx, below: Option<&SessionId>, most: usize) -> StoreResult<bool> {
        let root = &self.bearer.sid;
        let of = below.unwrap_or(root);
        let left = match self.limits.take_place(of) {
            Place::Taken => return Ok(true),
            Place::NoneLeft => return Ok(false),
            Place::NotCounted => most.saturating_sub(tx.count_open_delegations(root, below, most).await?),
        };
        self.limits.set_places_left(of, left.saturating_sub(1));
        Ok(left > 0)
    }

    fn deny(&self, tx: &mut dyn Tx, lineage: Option<&StoredLineage>, denial: DelegationDenial) {
        let text = denial.to_string();
        let violation = || {
            let to = [("delegate_to", self.wanted.delegate_to.as_str())];
            DenialDraft::denied(EventType::DelegationAttenuationViolation, text.as_str())
                .with_request(&describe_request(Some(&self.wanted.scope), &to))
        };
        let event = match denial {
            DelegationDenial::Revoked(kind) => DenialDraft::denied(EventType::TokenRevokedAccess, text.as_str())
                .resource(&self.path)
                .error_kind(kind),
            DelegationDenial::TooDeep => violation().error_kind("delegation_too_deep"),
            DelegationDenial::Scope => violation().error_kind("delegation_scope_exceeded"),
            DelegationDenial::Ceiling => violation().error_kind("delegation_beyond_ceiling"),
            DelegationDenial::Unknown => violation().error_kind("delegate_unknown"),
            DelegationDenial::Rate(_) => violation().error_kind("delegation_rate"),
            DelegationDenial::Open(_) | DelegationDenial::OpenBelow(_) => violation().error_kind("open_delegations"),
        };
        let event = enrich(event, &self.bearer, lineage)
            .delegation(self.bearer.delegation_chain.len(), &self.bearer.chain_hash);
        tx.deny(
            Asker::bearer(&self.bearer),
            event.actor(&self.bearer.sub).source(&self.source),
        );
    }

    fn claims(&self, prepared: Prepared, granted: DelegationGrant) -> Claims {
        let bearer = &self.bearer;
        let mut nodes = bearer.delegation_nodes.clone();
        nodes.push(prepared.node);
        Claims {
            sub: self.wanted.delegate_to.clone(),
            exp: granted.exp,
            nbf: granted.iat,
            iat: granted.iat,
            jti: prepared.jti,
            scope: self.wanted.scope.clone(),
            delegation_chain: prepared.chain,
            chain_hash: prepared.chain_hash,
            delegation_nodes: nodes,
            iss: bearer.iss.clone(),
            aud: bearer.aud.clone(),
            sid: bearer.sid.clone(),
            task_id: bearer.task_id.clone(),
            orch_id: bearer.orch_id.clone(),
        }
    }
}

/// The session of an agent to which a delegator may pass on authority of this session. An agent counts as unknown when a
/// person revoked it, when its pod is gone, or when it is of a namespace into which nothing may be passed on.
async fn reachable(tx: &mut dyn Tx, from: &Session, delegator: &str, agent: &str) -> StoreResult<Option<Session>> {
    let Some(target) = tx.session_of_agent(agent).await? else {
        return Ok(None);
    };
    let reachable = match (&from.attested, &target.attested) {
        _ if target.barred => false,
        (None, None) => true,
        (Some(from), Some(to)) => {
            let ended = target.ended(tx.times().judged).is_some();
            !ended
                && crossings::may_pass(tx, &from.orch_id, delegator, &to.namespace).await?
                && pod_denial(tx, &to.pod_uid).await?.is_none()
        }
        _ => false,
    };
    Ok(reachable.then_some(target))
}

#[async_trait]
impl Command for Delegate {
    type Outcome = Result<Claims, DelegationDenial>;
    const ISSUES: bool = true;
    const OPENS: bool = true;

    fn foresees(&self) -> Vec<Foreseen> {
        StoredLineage::foreseen(&self.bearer)
    }

    async fn run(mut self, tx: &mut dyn Tx) -> StoreResult<Self::Outcome> {
        let lineage = StoredLineage::of(tx, &self.bearer).await?;
        let decided = match &lineage {
            Some(lineage) => self.decide(tx, lineage).await?,
            None => Err(DelegationDenial::Revoked("session_unknown")),
        };
        let (lineage, granted, holder, prepared) = match (lineage, decided, self.prepared.take()) {
            (Some(lineage), Ok((granted, holder)), Some(prepared)) => (lineage, granted, holder, prepared),
            (lineage, decided, _) => {
                let denial = decided.err().unwrap_or(DelegationDenial::Scope);
                self.deny(tx, lineage.as_ref(), denial);
                return Ok(Err(denial));
            }
        };
        let claims = self.claims(prepared, granted);
        let mut session = node(tx, &lineage, &claims, granted.ceiling, &holder);
        tx.insert_session(&mut session).await?;
        let now = tx.now_millis();
        if is_born_revoked(&self.view, &claims, tx.times()) {
            tx.end_session(&session, EndReason::Revoked, now).await?;
        }
        // A holder that is superseded with an overlap keeps what it is given no longer than itself.
        let ending = holder.ended_at.zip(holder.end_reason);
        if let (Some(_), Some((at, reason))) = (&holder.attested, ending) {
            // The row has the moment on the clock that is judged by.
            let left = at.since(tx.times().judged);
            tx.end_session(&session, reason, now + left).await?;
        }
        let detail = format!(
            "token {} delegated for {} s: {}",
            claims.jti,
            claims.exp - claims.iat,
            list_scopes(&claims.scope, EVENT_SCOPES_BYTES)
        );
        let event = EventDraft::success(EventType::DelegationCreated, detail)
            .of_session(&session)
            .within_session(lineage.root())
            .delegation(claims.delegation_chain.len(), &claims.chain_hash);
        tx.audit(event.actor(&self.bearer.sub).source(&self.source));
        Ok(Ok(claims))
    }
}

/// The new delegation as it is stored.
fn node(tx: &dyn Tx, lineage: &StoredLineage, claims: &Claims, ceiling: UnixSeconds, holder: &Session) -> Session {
    Session {
        sid: claims.delegation_nodes.last().cloned().unwrap_or_default(),
        agent_id: claims.sub.clone(),
        orch_id: claims.orch_id.clone(),
        task_id: claims.task_id.clone(),
        scope: Vec::new(),
        jti: claims.jti.clone(),
        iat: claims.iat,
        exp: claims.exp,
        last_exp: claims.exp,
        previous: None,
        created_at: tx.now_millis(),
        ended_at: None,
        end_reason: None,
        correlation_id: lineage.root().correlation_id.clone(),
        attested: None,
        delegated: Some(Delegated {
            root: claims.sid.clone(),
            nodes: claims.delegation_nodes.clone(),
            ceiling,
            holder_pod: holder.attested.as_ref().map(|bound| bound.pod_uid.clone()),
        }),
        barred: false,
        status: None,
    }
}
