//! Why calls from the cluster are refused.

use agentwrit_attest::AttestorError;
use agentwrit_protocol::k8s::DenialKind;
use agentwrit_protocol::{EntropyError, ErrorCode};
use agentwrit_store::StoreError;

use super::policy::input::InputError;
use crate::service::error::{Internal, from_internal};

/// A refusal by a rule, in the closed vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodRefusal {
    /// The code on the wire.
    pub(crate) code: ErrorCode,
    /// The precise kind, for the audit trail.
    pub(crate) error_kind: &'static str,
    /// The sentence for the caller.
    pub(crate) detail: String,
}

impl From<DenialKind> for PodRefusal {
    fn from(kind: DenialKind) -> Self {
        Self {
            code: kind.code(),
            error_kind: kind.as_str(),
            detail: kind.detail().to_owned(),
        }
    }
}

/// Why a write was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WriteRefusal {
    #[error(transparent)]
    Input(#[from] InputError),
    /// A later writer or write came first: 409 `stale_writer`.
    #[error("a write with a higher lease epoch or sequence came first (current lease epoch: {current_epoch})")]
    Stale {
        /// The highest lease epoch seen.
        current_epoch: i64,
    },
    /// The object was removed or replaced; its UID doesn't come back: 409 `conflict`.
    #[error("the object with this uid was removed; a recreated object has another uid")]
    Removed,
    /// Scopes that the namespace may not have: 403 `scope_violation`.
    #[error("{0}")]
    BeyondCeiling(String),
    /// Only what takes authority away is written now, and this takes none: 503 `unavailable`.
    #[error("the broker's disk is full, see /readyz: only what takes authority away is written; nothing was changed")]
    NoRoom,
}

/// Why a call of the attestation and policy API failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum K8sError {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("refused: {}", .0.error_kind)]
    Refused(PodRefusal),
    #[error(transparent)]
    Write(WriteRefusal),
    #[error(transparent)]
    Attestor(#[from] AttestorError),
    #[error(transparent)]
    Internal(#[from] Internal),
}

from_internal!(K8sError: StoreError, EntropyError);

impl From<WriteRefusal> for K8sError {
    fn from(refusal: WriteRefusal) -> Self {
        match refusal {
            WriteRefusal::Input(error) => Self::Input(error),
            refusal => Self::Write(refusal),
        }
    }
}
