//! The revocation view of the process: everything that a token check needs besides the signature, in memory.
//!
//! The committer changes it after each commit and before the answer; at start it is loaded from the store.

use std::sync::atomic::{AtomicI64, Ordering};

use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::revocation_change::ViewChange;
use agentwrit_protocol::session::{RevocationLevel, RevocationView, TokenState};
use agentwrit_protocol::{Times, UnixSeconds};
use parking_lot::{RwLock, RwLockWriteGuard};

/// The [`RevocationView`] that every request shares.
#[derive(Debug, Default)]
pub struct SharedRevocationView {
    entries: RwLock<RevocationView>,
    min_iat: AtomicI64,
}

impl SharedRevocationView {
    /// An empty view that knows nothing: every token is [`TokenState::Unknown`].
    pub fn unloaded() -> Self {
        Self::default()
    }

    /// Replaces everything by another view, which was loaded from a store.
    pub fn replace(&self, fresh: RevocationView) {
        let min_iat = fresh.min_iat();
        // What it was is freed when the lock is free again.
        let before = std::mem::replace(&mut *self.entries.write(), fresh);
        self.min_iat.store(min_iat.get(), Ordering::SeqCst);
        drop(before);
    }

    /// Tokens that were issued before are refused.
    pub fn min_iat(&self) -> UnixSeconds {
        UnixSeconds::new(self.min_iat.load(Ordering::SeqCst))
    }

    /// Takes committed changes in.
    pub fn apply(&self, changes: Vec<ViewChange>) {
        if changes.is_empty() {
            return;
        }
        let mut entries = self.entries.write();
        for change in changes {
            entries.apply(change);
        }
    }

    /// The state of a token with these claims.
    pub fn state(&self, claims: &Claims, times: Times) -> TokenState {
        let entries = self.entries.read();
        entries.state(claims, times)
    }

    /// Whether a revocation of this level hits a token with these claims.
    pub fn is_revoked(&self, level: RevocationLevel, claims: &Claims, times: Times) -> bool {
        let entries = self.entries.read();
        entries.is_revoked(level, claims, times)
    }

    /// Notes that a token was refused because it had expired: it stays refused, also when the clock that said so is set
    /// back.
    pub fn note_expired(&self, claims: &Claims) {
        self.apply(vec![ViewChange::Expired {
            jti: claims.jti.clone(),
            until: claims.exp.end(),
        }]);
    }

    /// How many entries it has.
    pub fn entries(&self) -> usize {
        self.entries.read().len()
    }

    /// Forgets entries of one piece, of [`RevocationView::PIECES`], that can hit no token any more. Whoever waits for the
    /// view has it before the next piece.
    pub fn prune_piece(&self, piece: u8, times: Times) {
        let mut entries = self.entries.write();
        entries.prune_piece(piece, times);
        RwLockWriteGuard::unlock_fair(entries);
    }
}
