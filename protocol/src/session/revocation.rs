//! Revocations by a person, at four levels, and what each of them hits.

use crate::claims::Claims;
use crate::time::UnixMillis;

/// What a revocation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RevocationLevel {
    /// One token, by jti.
    Token,
    /// Every token of an agent, and every token delegated by it.
    Agent,
    /// Every token of a task.
    Task,
    /// Every token whose delegation chain starts at an agent.
    Chain,
}

impl RevocationLevel {
    /// Every level.
    pub const ALL: [Self; 4] = [Self::Token, Self::Agent, Self::Task, Self::Chain];

    /// The level on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Agent => "agent",
            Self::Task => "task",
            Self::Chain => "chain",
        }
    }

    /// The level with this name.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == text)
    }

    /// Whether some target that `listed` knows at this level hits a token with these claims. Which sessions end at the
    /// moment of a revocation is decided in the broker (`service/session/revoke.rs`).
    pub fn hits(self, claims: &Claims, listed: impl Fn(&str) -> bool) -> bool {
        let chain = &claims.delegation_chain;
        match self {
            Self::Token => listed(&claims.jti),
            // A member of the chain has lost what it passed on (`docs/wire-contract.md` §20 W4).
            Self::Agent => listed(&claims.sub) || chain.iter().any(|record| listed(&record.agent)),
            Self::Task => !claims.task_id.is_empty() && listed(&claims.task_id),
            Self::Chain => chain.first().is_some_and(|root| listed(&root.agent)),
        }
    }
}

/// One entry of the revocation list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// What `target` is.
    pub level: RevocationLevel,
    /// jti, subject, task id, or the chain's root.
    pub target: String,
    /// When it may be forgotten; never when `None`.
    pub until: Option<UnixMillis>,
}
