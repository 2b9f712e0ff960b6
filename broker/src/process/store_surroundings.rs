//! The broker's keys and revocation view, as the store knows them.

use std::sync::Arc;

use agentwrit_protocol::UnixSeconds;
use agentwrit_protocol::audit::{CheckpointKeys, SignatureCheck};

use agentwrit_store::{BoxError, CheckpointSigner, RevocationListener, ViewChange};
use agentwrit_tokens::key_set::KeySet;
use agentwrit_tokens::shared_revocation_view::SharedRevocationView;

/// Signs the audit chain with the signing key.
pub(crate) struct ChainSigner(pub(crate) Arc<KeySet>);

impl CheckpointKeys for ChainSigner {
    fn check(&self, kid: &str, message: &str, signature: &str) -> SignatureCheck {
        self.0.check(kid, message, signature)
    }
}

impl CheckpointSigner for ChainSigner {
    fn kid(&self) -> &str {
        self.0.kid()
    }

    fn sign_detached(&self, message: &str) -> Result<String, BoxError> {
        Ok(self.0.sign_detached(message)?)
    }
}

/// Keeps the revocation view up to date with the commits.
pub(crate) struct ViewFollower(pub(crate) Arc<SharedRevocationView>);

impl RevocationListener for ViewFollower {
    fn loaded(&self, min_iat: UnixSeconds, changes: Vec<ViewChange>) {
        self.0.load(min_iat, changes);
    }

    fn changed(&self, changes: Vec<ViewChange>) {
        self.0.apply(changes);
    }
}
