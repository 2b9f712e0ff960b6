//! The requests to the broker, for the agent, the log and the probes.

use std::fmt;

/// What was asked of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerRequest {
    /// A launch token, with the pod's `ServiceAccount` token.
    Launch,
    /// A nonce.
    Challenge,
    /// The agent's token.
    Register,
    /// A fresh token.
    Renew,
    /// Whether the token is valid.
    Validate,
    /// To take the token back.
    Release,
}

impl fmt::Display for BrokerRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Launch => "launch",
            Self::Challenge => "get a challenge",
            Self::Register => "register",
            Self::Renew => "renew",
            Self::Validate => "validate",
            Self::Release => "release",
        })
    }
}
