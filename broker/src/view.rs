//! The revocation view: everything that a token check needs besides the signature, in memory.
//!
//! The committer changes it after each commit and before the answer; at start it is loaded from the store.

use std::sync::{PoisonError, RwLock};

use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::session::{RevocationLevel, RevocationView};

pub use agentwrit_protocol::session::{Change as ViewChange, TokenState};

/// The view, shared by every request.
#[derive(Debug, Default)]
pub struct View {
    entries: RwLock<RevocationView>,
}

impl View {
    /// An empty view that knows nothing: every token is [`TokenState::Unknown`].
    pub fn unloaded() -> Self {
        Self::default()
    }

    /// Replaces everything by what a store holds.
    pub fn load(&self, min_iat: i64, changes: impl IntoIterator<Item = ViewChange>) {
        let fresh = RevocationView::loaded(min_iat, changes);
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = fresh;
    }

    /// Takes committed changes in.
    pub fn apply(&self, changes: Vec<ViewChange>) {
        if changes.is_empty() {
            return;
        }
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            entries.apply(change);
        }
    }

    /// Whether a token with these claims stands at this moment (Unix milliseconds).
    pub fn state(&self, claims: &Claims, now_millis: i64) -> TokenState {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.state(claims, now_millis)
    }

    /// Whether a revocation of this level hits a token with these claims at this moment (Unix milliseconds).
    pub fn is_revoked(&self, level: RevocationLevel, claims: &Claims, now_millis: i64) -> bool {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.is_revoked(level, claims, now_millis)
    }

    /// Forgets entries that can hit no token any more.
    pub fn prune(&self, now_millis: i64) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.prune(now_millis);
    }
}
