//! Revocations by a person, at four levels.

use async_trait::async_trait;

use super::{FromStored, Result};

pub use agentwrit_protocol::session::{Revocation, RevocationLevel};

impl FromStored for RevocationLevel {
    const WHAT: &'static str = "revocation level";

    fn from_text(text: &str) -> Option<Self> {
        Self::from_text(text)
    }
}

/// Repository of revocations.
#[async_trait]
pub trait Revocations {
    /// Adds an entry, or extends the one that is there, and tells the view.
    async fn add_revocation(&mut self, revocation: &Revocation) -> Result<()>;
    /// Whether there is such an entry.
    async fn is_revoked(&mut self, level: RevocationLevel, target: &str) -> Result<bool>;
    /// The targets of a level.
    async fn revoked_targets(&mut self, level: RevocationLevel) -> Result<Vec<String>>;
    /// Takes an entry back and tells the view; false when there was none.
    async fn lift_revocation(&mut self, level: RevocationLevel, target: &str) -> Result<bool>;
}
