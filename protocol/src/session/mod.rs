//! The rules of sessions, pure: what a registration opens, a renewal moves on, a delegation branches, and release or
//! revocation ends.
//!
//! A registration opens a session; its id is the claim `sid`. A delegation opens a child node under the same `sid`; the
//! ids on the way from the session to a delegated token's node are its claim `delegation_nodes`. The store keeps the
//! nodes, [`Lineage`] decides what may happen to one, [`RevocationView`] says from memory whether a token stands.
//!
//! What holds, whatever the order of events (the property test `tests/session_model/` tries):
//! * a node's end is the end of all its descendants;
//! * the end of a pod, its quarantine and the supersession of its session end what was delegated to its agents, and with
//!   it all below; apart from that a node's end is nobody else's;
//! * a renewal ends no child, and of several renewals of one token one wins;
//! * a delegated token, renewed or not, never outlives the delegating token's `exp` at delegation;
//! * a token belongs to its node while it is current or in overlap; only the direct predecessor of the current one can be
//!   in overlap: a further renewal ends the overlap before.

pub mod chain;

mod lineage;
mod quarantine;
mod revocation;
pub mod revocation_change;
mod revocation_view;

pub use chain::{ChainError, MAX_DEPTH, NodeBinding};

pub use lineage::{
    DelegationGrant, DelegationRefusal, End, Granted, Lineage, Node, Previous, ReleaseDecision, RenewLimits,
    RenewRefusal, RenewWish, RenewalDecision, Standing,
};
pub use quarantine::{PodBehind, has_uid_form, pod_of_agent};
pub use revocation::{Revocation, RevocationLevel};
pub use revocation_change::ViewChange;
pub use revocation_view::{RevocationView, TokenState};

/// Why a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// The agent gave its token back.
    Released,
    /// A person revoked it.
    Revoked,
    /// A later registration of the same pod took over.
    Superseded,
    /// The policy no longer covers it.
    PolicyChanged,
    /// Its AgentApp or LaunchToken is suspended.
    Suspended,
    /// Its policy is gone.
    PolicyRemoved,
    /// Its pod is gone.
    PodEnded,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Released,
        Self::Revoked,
        Self::Superseded,
        Self::PolicyChanged,
        Self::Suspended,
        Self::PolicyRemoved,
        Self::PodEnded,
    ];

    /// The reason in the store and in audit details.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Revoked => "revoked",
            Self::Superseded => "superseded",
            Self::PolicyChanged => "policy_changed",
            Self::Suspended => "suspended",
            Self::PolicyRemoved => "policy_removed",
            Self::PodEnded => "pod_ended",
        }
    }

    /// The reason with this name.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}
