//! The bearer check: `docs/wire-contract.md` §4, with subject kinds beside scopes.

use std::sync::Arc;

use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::claims::{Claims, SubjectKind};
use agentwrit_protocol::session::{RevocationLevel, TokenState};
use agentwrit_protocol::{ErrorCode, JudgingClock, Scope};
use agentwrit_store::{DenialDraft, EndReason, Result as StoreResult, StoreError};
use agentwrit_tokens::verifier::{TokenError, Verified};
use prometheus::IntCounter;

use super::denial_auditor::DenialAuditor;
use super::origin::AuditOrigin;
use super::session::token::TokenIssuer;
use super::token_check::TokenCheck;

/// What an `Authorization` header says.
#[derive(Clone, Copy)]
pub(crate) enum Authorization<'a> {
    /// There is none, or it is empty.
    Missing,
    /// It is no bearer, or there are two.
    OtherScheme,
    /// A bearer token, which may be malformed.
    Bearer(&'a str),
}

/// What an endpoint requires of a bearer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Requirement {
    subject: Subject,
    refusal: RefusalDetail,
}

/// What a refusal says beyond that the token has been revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RefusalDetail {
    Nothing,
    /// To attested agents: what to do next. A retry may pass with a token that was renewed.
    Renewal {
        is_retry: bool,
    },
    /// To apps that were deregistered: that they don't exist any more.
    Deregistration,
}

#[derive(Debug, Clone, Copy)]
enum Subject {
    Any,
    Agent,
    WithScope(SubjectKind, &'static str),
}

impl Requirement {
    pub(crate) const ANY: Self = Self {
        subject: Subject::Any,
        refusal: RefusalDetail::Nothing,
    };
    pub(crate) const AGENT: Self = Self {
        subject: Subject::Agent,
        refusal: RefusalDetail::Nothing,
    };

    /// Any agent; for attested ones a refusal says why, and a retried renewal may pass: whether it repeats the stored
    /// idempotency key is decided in the transaction.
    pub(crate) const fn renewal(is_retry: bool) -> Self {
        Self {
            subject: Subject::Agent,
            refusal: RefusalDetail::Renewal { is_retry },
        }
    }

    /// An admin whose token covers this scope.
    pub(crate) const fn admin(scope: &'static str) -> Self {
        Self {
            subject: Subject::WithScope(SubjectKind::Admin, scope),
            refusal: RefusalDetail::Nothing,
        }
    }

    /// An app whose token covers this scope; one that was deregistered gets a sentence of its own.
    pub(crate) const fn app(scope: &'static str) -> Self {
        Self {
            subject: Subject::WithScope(SubjectKind::App, scope),
            refusal: RefusalDetail::Deregistration,
        }
    }
}

/// A bearer that passed.
#[derive(Debug, Clone)]
pub(crate) struct Bearer {
    pub(crate) claims: Arc<Claims>,
}

/// Why a bearer is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorizeError {
    #[error("{0}")]
    Unauthorized(&'static str),
    /// Revoked, ended or replaced, with the code on the wire.
    #[error("token has been revoked")]
    Revoked(ErrorCode),
    /// An app's token, and the app was deregistered.
    #[error("app not found")]
    Deregistered,
    #[error("{0}")]
    Insufficient(String),
    /// The store has to say whether the token is revoked, and can't now.
    #[error("it is not known whether the token is revoked")]
    Unknown,
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Clone, Copy)]
pub(crate) struct Authorizer<'a> {
    pub(crate) tokens: &'a TokenIssuer,
    pub(crate) check: TokenCheck<'a>,
    pub(crate) judging: &'a JudgingClock,
    pub(crate) denials: &'a DenialAuditor,
    /// Counts tokens that are not valid yet.
    pub(crate) clock_skew: &'a IntCounter,
}

impl Authorizer<'_> {
    /// The bearer, or the first check that fails; failures are audited.
    pub(crate) async fn authorize(
        self,
        authorization: Authorization<'_>,
        origin: AuditOrigin<'_>,
        requirement: Requirement,
    ) -> Result<Bearer, AuthorizeError> {
        let refuse = |detail: &'static str, kind: &str, reason: &str| {
            let event = DenialDraft::denied(EventType::TokenAuthFailed, reason)
                .resource(origin.resource)
                .error_kind(kind);
            self.denials.stranger(origin.source, event);
            AuthorizeError::Unauthorized(detail)
        };
        let token = match authorization {
            Authorization::Bearer(token) => token,
            Authorization::Missing => {
                let detail = "missing authorization header";
                return Err(refuse(detail, "missing_authorization", detail));
            }
            Authorization::OtherScheme => {
                let detail = "invalid authorization scheme";
                return Err(refuse(detail, "invalid_authorization_scheme", detail));
            }
        };
        let verified = self.check.verify(token).await?;
        let Verified { claims, state } = verified.map_err(|error| {
            if error == TokenError::NotYetValid {
                self.clock_skew.inc();
            }
            refuse("token verification failed", error.kind(), &error.to_string())
        })?;
        self.check_not_revoked(origin, requirement.refusal, &claims, state)
            .await?;
        let audience = &self.tokens.audience;
        if !audience.is_empty() && !claims.aud.contains(audience) {
            let detail = "token audience mismatch";
            let event = DenialDraft::denied(EventType::TokenAuthFailed, detail).error_kind("audience");
            self.denials.bearer(origin, &claims, event).await?;
            return Err(AuthorizeError::Unauthorized(detail));
        }
        let lacking = match requirement.subject {
            Subject::Any => None,
            Subject::Agent => (claims.subject_kind() != SubjectKind::Agent)
                .then(|| "only tokens of agents can be renewed or delegated".to_owned()),
            Subject::WithScope(kind, scope) => {
                (!holds(&claims, kind, scope)).then(|| format!("token lacks required scope: {scope}"))
            }
        };
        if let Some(detail) = lacking {
            let event =
                DenialDraft::denied(EventType::ScopeViolation, detail.as_str()).error_kind("insufficient_scope");
            self.denials.bearer(origin, &claims, event).await?;
            return Err(AuthorizeError::Insufficient(detail));
        }
        Ok(Bearer { claims })
    }

    /// Step 4: not revoked, not ended.
    async fn check_not_revoked(
        self,
        origin: AuditOrigin<'_>,
        refusal: RefusalDetail,
        claims: &Claims,
        state: TokenState,
    ) -> Result<(), AuthorizeError> {
        let (code, kind) = match state {
            TokenState::Active => return Ok(()),
            TokenState::Renewed if refusal == (RefusalDetail::Renewal { is_retry: true }) && claims.is_attested() => {
                return Ok(());
            }
            TokenState::Unknown | TokenState::IssuedBeforeStore => return Err(AuthorizeError::Unknown),
            TokenState::Renewed => (ErrorCode::Superseded, "renewed"),
            TokenState::Ended(_) if refusal == RefusalDetail::Deregistration && self.is_deregistered(claims) => {
                self.audit_revoked(origin, claims, "app_deregistered").await?;
                return Err(AuthorizeError::Deregistered);
            }
            TokenState::Ended(reason) => (code_of_end(reason), reason.as_str()),
        };
        self.audit_revoked(origin, claims, kind).await?;
        Err(AuthorizeError::Revoked(match refusal {
            RefusalDetail::Renewal { .. } => renewal_code(claims, code),
            RefusalDetail::Nothing | RefusalDetail::Deregistration => ErrorCode::InsufficientScope,
        }))
    }

    /// Whether deregistration is what ended an app's token: nothing else revokes all tokens of an app.
    fn is_deregistered(self, claims: &Claims) -> bool {
        let times = self.judging.times();
        let hit = |level| self.tokens.view.is_revoked(level, claims, times);
        claims.subject_kind() == SubjectKind::App && hit(RevocationLevel::Agent) && !hit(RevocationLevel::Token)
    }

    async fn audit_revoked(self, origin: AuditOrigin<'_>, claims: &Claims, kind: &str) -> StoreResult<()> {
        let event = DenialDraft::denied(EventType::TokenRevokedAccess, format!("token has been revoked: {kind}"));
        self.denials.bearer(origin, claims, event.error_kind(kind)).await
    }
}

/// The code for a renewal of a token that is revoked: it says what an attested agent must do next.
pub(super) fn renewal_code(claims: &Claims, code: ErrorCode) -> ErrorCode {
    if claims.is_attested() {
        code
    } else {
        ErrorCode::InsufficientScope
    }
}

/// What an attested agent must do after its session has ended.
pub(super) fn code_of_end(reason: EndReason) -> ErrorCode {
    match reason {
        EndReason::Revoked | EndReason::PodEnded => ErrorCode::Revoked,
        // It gave this token back itself: it may start over.
        EndReason::Superseded | EndReason::Released => ErrorCode::Superseded,
        EndReason::PolicyChanged | EndReason::PolicyRemoved => ErrorCode::PolicyChanged,
        EndReason::Suspended => ErrorCode::Suspended,
    }
}

/// Whether the subject is of that kind and holds the scope.
fn holds(claims: &Claims, kind: SubjectKind, scope: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::seed;
    use crate::testing::broker;

    const ORIGIN: AuditOrigin<'_> = AuditOrigin {
        source: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        resource: "/v1/x",
    };

    #[tokio::test]
    async fn a_requirement_decides_about_a_token_without_http() {
        let broker = broker().await;
        let (_, admin) = seed::seed(&broker).await.unwrap();
        let ask =
            async |authorization, requirement| broker.authorizer().authorize(authorization, ORIGIN, requirement).await;
        let token = Authorization::Bearer(admin.expose());
        let passed = ask(token, Requirement::admin("admin:audit:*")).await.unwrap();
        assert_eq!(passed.claims.subject_kind(), SubjectKind::Admin);
        for (authorization, requirement, wanted) in [
            (Authorization::Missing, Requirement::ANY, "missing authorization header"),
            (
                Authorization::OtherScheme,
                Requirement::ANY,
                "invalid authorization scheme",
            ),
            (Authorization::Bearer(""), Requirement::ANY, "token verification failed"),
            (
                token,
                Requirement::AGENT,
                "only tokens of agents can be renewed or delegated",
            ),
            (
                token,
                Requirement::app("app:launch-tokens:*"),
                "token lacks required scope: app:launch-tokens:*",
            ),
        ] {
            let refused = ask(authorization, requirement).await.unwrap_err();
            assert_eq!(refused.to_string(), wanted);
        }
    }

    #[tokio::test]
    async fn a_renewed_token_passes_for_a_retry_of_an_attested_agent() {
        let broker = broker().await;
        let attested = Claims {
            orch_id: agentwrit_protocol::k8s::orch_id("shop", "reader"),
            ..Claims::default()
        };
        let plain = Claims::default();
        for (claims, requirement, passes) in [
            (&attested, Requirement::renewal(true), true),
            (&attested, Requirement::renewal(false), false),
            (&attested, Requirement::AGENT, false),
            (&plain, Requirement::renewal(true), false),
        ] {
            let refusal = requirement.refusal;
            let checked = broker
                .authorizer()
                .check_not_revoked(ORIGIN, refusal, claims, TokenState::Renewed);
            assert_eq!(checked.await.is_ok(), passes, "{refusal:?} {:?}", claims.orch_id);
        }
    }

    #[test]
    fn only_attested_agents_get_a_hint() {
        let plain = Claims::default();
        let attested = Claims {
            orch_id: agentwrit_protocol::k8s::orch_id("shop", "reader"),
            ..Claims::default()
        };
        let code = |claims| renewal_code(claims, code_of_end(EndReason::Suspended));
        assert_eq!(code(&plain), ErrorCode::InsufficientScope);
        assert_eq!(code(&attested), ErrorCode::Suspended);
    }
}
