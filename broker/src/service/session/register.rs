//! Registration: launch token, nonce and proof against a session and its first token.

use std::net::IpAddr;
use std::sync::Arc;

use agentwrit_limits::Asker;
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::excerpt::{EVENT_SCOPES_BYTES, excerpt, list_scopes};
use agentwrit_protocol::k8s::ORCH_PREFIX;
use agentwrit_protocol::wire::RegisterRequest;
use agentwrit_protocol::{
    EntropyError, Jti, JudgingClock, PodUid, ScopeSet, SessionId, SpiffeId, SpiffeIdError, Times, Ttl,
};
use agentwrit_server::Source;
use agentwrit_store::{
    Command, DenialDraft, EndReason, EventDraft, Foreseen, LaunchToken, LaunchTokenHash, Result as StoreResult,
    Session, Store, StoreError, Tx,
};
use agentwrit_tokens::nonce::{Nonce, NonceIssuer};
use agentwrit_tokens::shared_revocation_view::SharedRevocationView;
use async_trait::async_trait;
use prometheus::IntCounterVec;

use super::launch_token_check::{self, RecentLaunchTokens, Unusable};
use super::proof_of_possession::{self, ProofError};
use super::registration::{Missing, Registration, RegistrationDenial};
use super::token::{Issued, SignError, TokenIssuer, is_born_revoked};
use crate::config::ScopeCeilings;
use crate::ids::IdGenerator;
use crate::service::denial_auditor::DenialAuditor;
use crate::service::error::{Internal, from_internal};
use crate::service::k8s::pod_binding::{self, RegisterClaim};
use crate::service::scope_limits::{MAX_SCOPE_LIST_BYTES, ScopeLimits, TooManyScopes, is_too_long};
use crate::service::stranger_reads::StrangerReads;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegisterError {
    /// A member is not there, or empty; nothing is burned.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// `orch_id` or `task_id` can't be part of a SPIFFE id; nothing is burned.
    #[error(transparent)]
    Segment(#[from] SpiffeIdError),
    /// A token with these scopes could be sent nowhere; nothing is burned.
    #[error("requested_scope must be at most {MAX_SCOPE_LIST_BYTES} bytes of JSON")]
    ScopeLength,
    /// More scopes, or longer ones, than this agent may have; nothing is burned.
    #[error(transparent)]
    ScopeLimits(#[from] TooManyScopes),
    #[error(transparent)]
    Denied(RegistrationDenial),
    #[error(transparent)]
    Internal(#[from] Internal),
}

from_internal!(RegisterError: StoreError, EntropyError, SignError);

/// Registers agents, in the order of `docs/wire-contract.md` §8.
pub(crate) struct Registrar<'a> {
    pub(crate) store: &'a Store,
    pub(crate) judging: &'a JudgingClock,
    pub(crate) ids: &'a IdGenerator,
    pub(crate) nonces: &'a NonceIssuer,
    pub(crate) recent: &'a RecentLaunchTokens,
    pub(crate) strangers: &'a StrangerReads,
    pub(crate) denials: &'a DenialAuditor,
    pub(crate) tokens: &'a TokenIssuer,
    pub(crate) counted: &'a IntCounterVec,
    pub(crate) trust_domain: &'a str,
    pub(crate) scope_limits: ScopeLimits,
    pub(crate) max_ttl: Ttl,
    pub(crate) ceilings: &'a Arc<ScopeCeilings>,
}

impl Registrar<'_> {
    /// Opens a session; returns the agent's SPIFFE id and its first token.
    pub(crate) async fn register(
        &self,
        request: RegisterRequest,
        source: IpAddr,
    ) -> Result<(String, Issued), RegisterError> {
        let result = self.attempt(request, source).await;
        let status = if result.is_ok() { "success" } else { "failure" };
        self.counted.with_label_values(&[status]).inc();
        result
    }

    async fn attempt(&self, request: RegisterRequest, source: IpAddr) -> Result<(String, Issued), RegisterError> {
        let wanted = Registration::complete(request)?;
        if is_too_long(&wanted.requested_scope) {
            return Err(RegisterError::ScopeLength);
        }
        let scope_limits = self.scope_limits.of_orchestration(&wanted.orch_id);
        scope_limits.check("requested_scope", &wanted.requested_scope)?;
        let wanted = Arc::new(wanted);
        // The task of an attested agent is its pod's UID, which the transaction makes sure of.
        let attested = wanted.orch_id.starts_with(ORCH_PREFIX);
        let pod_uid = attested.then(|| PodUid::from(wanted.task_id.as_str()));
        let instance = self.ids.new_id_prefix(pod_uid.as_ref())?;
        let agent = SpiffeId::agent(self.trust_domain, &wanted.orch_id, &wanted.task_id, &instance)?;
        let hash = LaunchTokenHash::of(wanted.launch_token.expose());
        let unusable = self.recent.precheck(
            self.store,
            self.strangers,
            &wanted.launch_token,
            &hash,
            Source::of(source),
            self.judging.times().judged,
        );
        if let Some(unusable) = unusable.await? {
            return Err(self.refuse_stranger(&wanted, unusable, source));
        }
        // Pure and slow: decided before the transaction, looked at when the contract says.
        let proof = proof_of_possession::check(&wanted.public_key, &wanted.signature, &wanted.nonce);
        let command = Register {
            hash: hash.clone(),
            agent_id: agent.to_string(),
            scope: ScopeSet::parse(&wanted.requested_scope).ok(),
            nonce: self.nonces.read(&self.store.epoch(), &wanted.nonce),
            proof,
            sid: self.ids.random_id(&instance)?,
            jti: self.ids.random_id(&instance)?,
            max_ttl: self.max_ttl,
            ceilings: Arc::clone(self.ceilings),
            source,
            view: Arc::clone(&self.tokens.view),
            wanted: Arc::clone(&wanted),
        };
        let outcome = self.store.commit(command).await?;
        if matches!(outcome, Ok(Registered { spent: true, .. }) | Err(Refused::Unusable(_))) {
            self.recent.remove(&hash);
        }
        let Registered { session, audiences, .. } = match outcome {
            Ok(registered) => registered,
            Err(Refused::Audited(denial)) => return Err(RegisterError::Denied(denial)),
            Err(Refused::Unusable(unusable)) => return Err(self.refuse_stranger(&wanted, unusable, source)),
        };
        let issued = self.tokens.sign(&self.tokens.session_claims(&session, audiences))?;
        Ok((session.agent_id, issued))
    }

    fn refuse_stranger(&self, wanted: &Registration, unusable: Unusable, source: IpAddr) -> RegisterError {
        let Unusable { denial, launch } = unusable;
        // The ids are only claimed, so they are no members of the event.
        let request = wanted.describe_request(
            launch.as_deref(),
            &[("orch_id", &wanted.orch_id), ("task_id", &wanted.task_id)],
        );
        let event = DenialDraft::denied(EventType::RegistrationDenied, denial.to_string());
        self.denials
            .stranger(source, event.with_request(&request).error_kind(denial.kind()));
        RegisterError::Denied(denial)
    }
}

/// A session was opened.
struct Registered {
    session: Session,
    /// What `aud` has beside the broker's own.
    audiences: Vec<String>,
    /// Whether the launch token is used up now.
    spent: bool,
}

/// A refusal, and who audits it.
enum Refused {
    /// The caller has no usable launch token, so it is a stranger: audited after the transaction.
    Unusable(Unusable),
    /// A later step: audited in the transaction.
    Audited(RegistrationDenial),
}

struct Register {
    hash: LaunchTokenHash,
    agent_id: String,
    /// None when one of the requested scopes is malformed: nothing covers it.
    scope: Option<ScopeSet>,
    nonce: Option<Nonce>,
    proof: Result<(), ProofError>,
    sid: SessionId,
    jti: Jti,
    max_ttl: Ttl,
    ceilings: Arc<ScopeCeilings>,
    source: IpAddr,
    view: Arc<SharedRevocationView>,
    wanted: Arc<Registration>,
}

impl Register {
    /// An event about this attempt, with what the launch token knows.
    fn denial(&self, launch: &LaunchToken, event: DenialDraft) -> DenialDraft {
        let event = event
            .task(&self.wanted.task_id)
            .orchestration(&self.wanted.orch_id)
            .source(&self.source.to_string())
            .correlation_id(&launch.correlation_id);
        match &launch.attested {
            Some(bound) => event.pod_uid(&bound.pod_uid).policy_uid(&bound.policy_uid),
            None => event,
        }
    }

    fn deny(&self, tx: &mut dyn Tx, launch: &LaunchToken, denial: RegistrationDenial) -> RegistrationDenial {
        let kind = if denial == RegistrationDenial::Scope {
            EventType::RegistrationPolicyViolation
        } else {
            EventType::RegistrationDenied
        };
        let event = DenialDraft::denied(kind, denial.to_string())
            .with_request(&self.wanted.describe_request(Some(launch), &[]))
            .error_kind(denial.kind());
        tx.deny(Asker::Source(self.source), self.denial(launch, event));
        denial
    }

    /// Steps 4 to 8 of `docs/wire-contract.md` §8.
    async fn decide(&self, tx: &mut dyn Tx, launch: &LaunchToken) -> StoreResult<Result<(), RegistrationDenial>> {
        let allowed = self
            .scope
            .as_ref()
            .is_some_and(|scope| launch.allowed_scope.covers_all(scope));
        if !allowed {
            return Ok(Err(self.deny(tx, launch, RegistrationDenial::Scope)));
        }
        let Some(nonce) = self.nonce.as_ref().filter(|nonce| nonce.expires_at > tx.times().judged) else {
            return Ok(Err(self.deny(tx, launch, RegistrationDenial::NonceUnknown)));
        };
        if !tx.consume_nonce(&nonce.text, nonce.expires_at).await? {
            return Ok(Err(self.deny(tx, launch, RegistrationDenial::NonceConsumed)));
        }
        if let Err(error) = self.proof {
            return Ok(Err(self.deny(tx, launch, RegistrationDenial::Proof(error))));
        }
        if launch.single_use && !tx.consume_launch_token(&launch.hash).await? {
            return Ok(Err(self.deny(tx, launch, RegistrationDenial::LaunchTokenConsumed)));
        }
        Ok(Ok(()))
    }

    fn session(&self, tx: &dyn Tx, launch: &LaunchToken) -> Session {
        let mut ttl = launch.max_ttl;
        if let Some(shorter) = self.wanted.requested_ttl.filter(|ttl| *ttl > 0) {
            ttl = ttl.min(Ttl::seconds(shorter));
        }
        let iat = tx.now_seconds();
        let exp = iat + ttl.capped_at(self.max_ttl);
        Session {
            sid: self.sid.clone(),
            agent_id: self.agent_id.clone(),
            orch_id: self.wanted.orch_id.clone(),
            task_id: self.wanted.task_id.clone(),
            scope: self.wanted.requested_scope.clone(),
            jti: self.jti.clone(),
            iat,
            exp,
            last_exp: exp,
            previous: None,
            created_at: tx.now_millis(),
            ended_at: None,
            end_reason: None,
            correlation_id: launch.correlation_id.clone(),
            attested: launch.attested.clone(),
            delegated: None,
            barred: false,
            status: None,
        }
    }

    /// What a revocation could hit of a new session: its task.
    fn is_born_revoked(&self, session: &Session, times: Times) -> bool {
        let claims = Claims {
            task_id: session.task_id.clone(),
            iat: session.iat,
            ..Claims::default()
        };
        is_born_revoked(&self.view, &claims, times)
    }
}

#[async_trait]
impl Command for Register {
    type Outcome = Result<Registered, Refused>;
    const ISSUES: bool = true;
    const OPENS: bool = true;

    fn foresees(&self) -> Vec<Foreseen> {
        let nonce = self.nonce.as_ref();
        let nonce = nonce.map(|nonce| Foreseen::Nonce(nonce.text.clone(), nonce.expires_at));
        std::iter::once(Foreseen::LaunchToken(self.hash.clone()))
            .chain(nonce)
            .collect()
    }

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<Self::Outcome> {
        let launch = match launch_token_check::read(tx, &self.hash).await? {
            Ok(launch) => launch,
            Err(unusable) => return Ok(Err(Refused::Unusable(unusable))),
        };
        let claim = RegisterClaim {
            orch_id: &self.wanted.orch_id,
            task_id: &self.wanted.task_id,
            public_key: &self.wanted.public_key,
            requested_scope: &self.wanted.requested_scope,
            source: self.source,
        };
        let audiences = match pod_binding::check_register(tx, &self.ceilings, &launch, &claim).await? {
            Ok(audiences) => audiences,
            Err(refusal) => return Ok(Err(Refused::Audited(RegistrationDenial::Policy(refusal)))),
        };
        if let Err(denial) = self.decide(tx, &launch).await? {
            return Ok(Err(Refused::Audited(denial)));
        }
        let mut session = self.session(tx, &launch);
        tx.insert_session(&mut session).await?;
        let now = tx.now_millis();
        if self.is_born_revoked(&session, tx.times()) {
            tx.end_session(&session, EndReason::Revoked, now).await?;
        }
        let detail = format!(
            "agent {:?} registered, launched by {}",
            excerpt(&launch.agent_name),
            launch.created_by
        );
        let registered = EventDraft::success(EventType::AgentRegistered, detail);
        let source = self.source.to_string();
        tx.audit(registered.of_session(&session).source(&source));
        let detail = format!(
            "token {} issued for {} s: {}",
            session.jti,
            session.exp - session.iat,
            list_scopes(&session.scope, EVENT_SCOPES_BYTES)
        );
        let issued = EventDraft::success(EventType::TokenIssued, detail);
        tx.audit(issued.of_session(&session).source(&source));
        pod_binding::on_registered(tx, &launch, &session.sid).await?;
        Ok(Ok(Registered {
            session,
            audiences,
            spent: launch.single_use,
        }))
    }
}
