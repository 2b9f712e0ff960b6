//! What a registration asks for, and why it is refused.

use agentwrit_protocol::excerpt::describe_request;
use agentwrit_protocol::wire::RegisterRequest;
use agentwrit_protocol::{ErrorCode, OrchId, Sensitive, TaskId};

use agentwrit_store::LaunchToken;

use super::proof_of_possession::ProofError;
use crate::service::k8s::error::PodRefusal;

/// A member that is not there, or empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("missing required field: {0}")]
pub(crate) struct Missing(&'static str);

/// A registration as asked for: every member is there.
pub(super) struct Registration {
    pub(super) launch_token: Sensitive,
    /// As `/v1/challenge` gave it.
    pub(super) nonce: String,
    /// Raw Ed25519 key, base64.
    pub(super) public_key: String,
    /// Ed25519 over the decoded nonce, base64.
    pub(super) signature: String,
    /// Second segment of the SPIFFE id.
    pub(super) orch_id: OrchId,
    /// Third segment of the SPIFFE id.
    pub(super) task_id: TaskId,
    /// Not empty.
    pub(super) requested_scope: Vec<String>,
    /// Seconds; 0 and less count as absent.
    pub(super) requested_ttl: Option<i64>,
}

impl Registration {
    /// The request, when nothing is missing.
    pub(super) fn complete(request: RegisterRequest) -> Result<Self, Missing> {
        let text = |value: Option<String>, name| {
            let value = value.filter(|text| !text.is_empty());
            value.ok_or(Missing(name))
        };
        let complete = Self {
            launch_token: request
                .launch_token
                .filter(|token: &Sensitive| !token.expose().is_empty())
                .ok_or(Missing("launch_token"))?,
            nonce: text(request.nonce, "nonce")?,
            public_key: text(request.public_key, "public_key")?,
            signature: text(request.signature, "signature")?,
            orch_id: text(request.orch_id, "orch_id")?.into(),
            task_id: text(request.task_id, "task_id")?.into(),
            requested_scope: request.requested_scope.unwrap_or_default(),
            requested_ttl: request.requested_ttl,
        };
        if complete.requested_scope.is_empty() {
            return Err(Missing("requested_scope"));
        }
        Ok(complete)
    }

    /// What was asked for, for the audit trail.
    pub(super) fn describe_request(&self, launch: Option<&LaunchToken>, claimed: &[(&str, &str)]) -> String {
        let mut names = launch.map_or_else(Vec::new, LaunchToken::names);
        names.extend_from_slice(claimed);
        describe_request(Some(&self.requested_scope), &names)
    }
}

/// Why a registration is refused; the texts are the contract's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RegistrationDenial {
    #[error("launch token not found")]
    LaunchTokenUnknown,
    #[error("launch token expired")]
    LaunchTokenExpired,
    #[error("launch token already consumed")]
    LaunchTokenConsumed,
    /// What the launch token's policy says, audited already.
    #[error("{}", .0.detail)]
    Policy(PodRefusal),
    #[error("requested scope exceeds allowed scope")]
    Scope,
    #[error("nonce not found or expired")]
    NonceUnknown,
    #[error("nonce already consumed")]
    NonceConsumed,
    #[error(transparent)]
    Proof(ProofError),
}

impl RegistrationDenial {
    /// The code on the wire.
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::Policy(refusal) => refusal.code,
            Self::Scope => ErrorCode::ScopeViolation,
            Self::LaunchTokenUnknown
            | Self::LaunchTokenExpired
            | Self::LaunchTokenConsumed
            | Self::NonceUnknown
            | Self::NonceConsumed
            | Self::Proof(_) => ErrorCode::Unauthorized,
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::LaunchTokenUnknown => "launch_token_unknown",
            Self::LaunchTokenExpired => "launch_token_expired",
            Self::LaunchTokenConsumed => "launch_token_consumed",
            Self::Policy(refusal) => refusal.error_kind,
            Self::Scope => "scope_exceeded",
            Self::NonceUnknown => "nonce_unknown",
            Self::NonceConsumed => "nonce_consumed",
            Self::Proof(error) => error.kind(),
        }
    }
}
