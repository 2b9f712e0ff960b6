//! Revocations by a person, at four levels.

use async_trait::async_trait;

use super::{Result, StoreError};

/// What a revocation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RevocationLevel {
    /// One token, by jti.
    Token,
    /// Every token of a subject.
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

    /// Reads a stored level.
    ///
    /// # Errors
    /// When the store holds another word.
    pub fn from_stored(text: &str) -> Result<Self> {
        Self::from_text(text).ok_or_else(|| StoreError::Corrupt {
            what: "revocation level",
            why: format!("{text:?}"),
        })
    }
}

/// One entry of the revocation list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// What `target` is.
    pub level: RevocationLevel,
    /// jti, subject, task id, or the chain's root.
    pub target: String,
    /// When it may be forgotten, Unix milliseconds; never when `None`.
    pub until: Option<i64>,
}

/// Repository of revocations.
#[async_trait]
pub trait Revocations {
    /// Adds an entry, or extends the one that is there, and tells the view.
    async fn add_revocation(&mut self, revocation: &Revocation) -> Result<()>;
    /// Takes an entry back and tells the view; false when there was none.
    async fn lift_revocation(&mut self, level: RevocationLevel, target: &str) -> Result<bool>;
}
