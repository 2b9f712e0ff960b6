//! The bearer check: contract §4, with subject kinds beside scopes.

use std::sync::Arc;

use agentwrit_protocol::ErrorCode;
use agentwrit_protocol::Scope;
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::claims::{Claims, SubjectKind};
use agentwrit_protocol::session::RevocationLevel;
use async_trait::async_trait;

use super::attested::is_attested;
use super::launch::LaunchError;
use crate::broker::Broker;
use crate::http::error::ApiError;
use crate::http::{Call, IDEMPOTENCY_KEY};
use crate::limits::Asker;
use crate::store::{Command, DenialDraft, EndReason, EventDraft, Result as StoreResult, Tx};
use crate::verify::{TokenError, Verified};
use crate::view::TokenState;

/// What an endpoint asks of a bearer.
#[derive(Debug, Clone, Copy)]
pub struct Guard {
    needs: Needs,
    telling: Telling,
}

/// What a refusal says beyond that the token has been revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Telling {
    Nothing,
    /// To attested agents: what to do next.
    Renewal,
    /// To apps that were deregistered: that they are no more.
    Deregistration,
}

#[derive(Debug, Clone, Copy)]
enum Needs {
    Nothing,
    Agent,
    Scope(SubjectKind, &'static str),
}

impl Guard {
    /// Any subject.
    pub const ANY: Self = Self {
        needs: Needs::Nothing,
        telling: Telling::Nothing,
    };
    /// Any agent.
    pub const AGENT: Self = Self {
        needs: Needs::Agent,
        telling: Telling::Nothing,
    };
    /// Any agent; for attested ones a refusal says why, and a retried renewal may pass.
    pub const RENEWAL: Self = Self {
        needs: Needs::Agent,
        telling: Telling::Renewal,
    };

    /// An admin whose token covers this scope.
    pub const fn admin(scope: &'static str) -> Self {
        Self::kind(SubjectKind::Admin, scope)
    }

    /// An app whose token covers this scope; one that was deregistered hears so.
    pub const fn app(scope: &'static str) -> Self {
        Self {
            telling: Telling::Deregistration,
            ..Self::kind(SubjectKind::App, scope)
        }
    }

    const fn kind(kind: SubjectKind, scope: &'static str) -> Self {
        Self {
            needs: Needs::Scope(kind, scope),
            telling: Telling::Nothing,
        }
    }
}

/// A bearer that passed.
#[derive(Debug, Clone)]
pub struct Bearer {
    /// Its claims.
    pub claims: Arc<Claims>,
    /// Active; or renewed, for a retried renewal of an attested agent.
    pub state: TokenState,
}

/// Checks the bearer of a call.
///
/// # Errors
/// The first check that fails, audited.
pub async fn authenticate(broker: &Broker, call: &Call, guard: Guard) -> Result<Bearer, ApiError> {
    let refuse = |detail: &str, kind: &str, reason: &str| {
        let event = DenialDraft::denied(EventType::TokenAuthFailed, reason)
            .resource(&call.path())
            .error_kind(kind);
        broker.audit_denial(call.source, event);
        ApiError::unauthorized(detail)
    };
    let Some(header) = call.authorization().filter(|header| !header.is_empty()) else {
        return Err(refuse(
            "missing authorization header",
            "missing_authorization",
            "missing authorization header",
        ));
    };
    let Some(token) = header.as_bytes().strip_prefix(b"Bearer ") else {
        let detail = "invalid authorization scheme";
        return Err(refuse(detail, "invalid_authorization_scheme", detail));
    };
    // What is no text is no token either, and empty ones are malformed.
    let token = str::from_utf8(token).unwrap_or_default();
    let Verified { claims, state } = broker.verifier.verify(token).map_err(|error| {
        if error == TokenError::NotYetValid {
            broker.metrics.clock_skew.inc();
        }
        refuse("token verification failed", error.kind(), &error.to_string())
    })?;
    stands(broker, call, guard, &claims, state).await?;
    if !broker.config.audience.is_empty() && !claims.aud.contains(&broker.config.audience) {
        let event = DenialDraft::denied(EventType::TokenAuthFailed, "token audience mismatch").error_kind("audience");
        audit(broker, call, &claims, event).await?;
        return Err(ApiError::unauthorized("token audience mismatch"));
    }
    let lacking = match guard.needs {
        Needs::Nothing => None,
        Needs::Agent => (claims.subject_kind() != SubjectKind::Agent)
            .then(|| "only tokens of agents can be renewed or delegated".to_owned()),
        Needs::Scope(kind, scope) => {
            (!may(&claims, kind, scope)).then(|| format!("token lacks required scope: {scope}"))
        }
    };
    if let Some(detail) = lacking {
        let event = DenialDraft::denied(EventType::ScopeViolation, detail.as_str()).error_kind("insufficient_scope");
        audit(broker, call, &claims, event).await?;
        return Err(ApiError::new(ErrorCode::InsufficientScope, detail));
    }
    Ok(Bearer { claims, state })
}

/// Step 4: not revoked, not ended.
async fn stands(
    broker: &Broker,
    call: &Call,
    guard: Guard,
    claims: &Claims,
    state: TokenState,
) -> Result<(), ApiError> {
    let tells = guard.telling == Telling::Renewal && is_attested(claims);
    let (code, kind) = match state {
        TokenState::Active => return Ok(()),
        // Whether the key is the stored one is decided in the transaction.
        TokenState::Renewed if tells && call.headers.contains_key(IDEMPOTENCY_KEY) => return Ok(()),
        TokenState::Unknown | TokenState::Forgotten => return Err(ApiError::unavailable()),
        TokenState::Renewed => (ErrorCode::Superseded, "renewed"),
        TokenState::Ended(_) if guard.telling == Telling::Deregistration && is_deregistered(broker, claims) => {
            revoked_access(broker, call, claims, "app_deregistered").await?;
            return Err(LaunchError::UnknownApp.into());
        }
        TokenState::Ended(reason) => (renewal_code(reason), reason.as_str()),
    };
    revoked_access(broker, call, claims, kind).await?;
    Err(revoked(if tells { code } else { ErrorCode::InsufficientScope }))
}

/// Whether deregistration is what ended an app's token: nothing else revokes all tokens of an app.
fn is_deregistered(broker: &Broker, claims: &Claims) -> bool {
    let times = broker.judging.times();
    let hit = |level| broker.view.is_revoked(level, claims, times);
    claims.subject_kind() == SubjectKind::App && hit(RevocationLevel::Agent) && !hit(RevocationLevel::Token)
}

/// What an attested agent hears on renewal after its session ended: what it must do next.
pub fn renewal_code(reason: EndReason) -> ErrorCode {
    match reason {
        EndReason::Revoked | EndReason::PodEnded => ErrorCode::Revoked,
        // It gave this token back itself: it may start over.
        EndReason::Superseded | EndReason::Released => ErrorCode::Superseded,
        EndReason::PolicyChanged | EndReason::PolicyRemoved => ErrorCode::PolicyChanged,
        EndReason::Suspended => ErrorCode::Suspended,
    }
}

/// 403 with the text that clients look for.
pub fn revoked(code: ErrorCode) -> ApiError {
    ApiError::new(code, "token has been revoked")
}

/// Audits the use of a revoked token.
///
/// # Errors
/// 503 when the event can't be committed.
pub async fn revoked_access(broker: &Broker, call: &Call, claims: &Claims, kind: &str) -> Result<(), ApiError> {
    let event = DenialDraft::denied(EventType::TokenRevokedAccess, format!("token has been revoked: {kind}"));
    audit(broker, call, claims, event.error_kind(kind)).await
}

/// Whether the subject is of that kind and holds the scope.
fn may(claims: &Claims, kind: SubjectKind, scope: &str) -> bool {
    let Ok(required) = scope.parse::<Scope>() else {
        return false;
    };
    claims.subject_kind() == kind
        && claims
            .scope
            .iter()
            .filter_map(|held| held.parse::<Scope>().ok())
            .any(|held| held.covers(&required))
}

/// Commits a denial of a verified bearer, with what its session knows; beyond its rate it is only counted.
async fn audit(broker: &Broker, call: &Call, claims: &Claims, denial: DenialDraft) -> Result<(), ApiError> {
    let denial = denial
        .ids(&claims.sub, &claims.task_id, &claims.orch_id)
        .resource(&call.path())
        .actor(&claims.sub)
        .source(&call.source_text());
    let Some(event) = broker.limits.pass(Asker::bearer(claims), denial) else {
        return Ok(());
    };
    broker
        .store
        .commit(AuditBearer {
            event,
            sid: claims.sid.clone(),
        })
        .await?;
    Ok(())
}

struct AuditBearer {
    event: EventDraft,
    sid: String,
}

#[async_trait]
impl Command for AuditBearer {
    type Outcome = ();

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<()> {
        let session = if self.sid.is_empty() {
            None
        } else {
            tx.session(&self.sid).await?
        };
        let event = match session {
            Some(session) => self.event.within_session(&session),
            None => self.event,
        };
        tx.audit(event);
        Ok(())
    }
}
