//! The broker's keys and revocation view, as the store knows them.

use std::sync::Arc;

use agentwrit_protocol::audit::{CheckpointKeys, SignatureCheck};
use agentwrit_protocol::signing_keys::{KeyTimes, SigningKeys};
use agentwrit_protocol::{JudgingClock, UnixSeconds};

use agentwrit_store::{BoxError, CheckpointSigner, RevocationListener, SignedStatement, SigningKey, ViewChange};
use agentwrit_tokens::key_set::KeySet;
use agentwrit_tokens::shared_revocation_view::SharedRevocationView;

use crate::service::signing_keys::snapshot;

/// Signs the audit chain with the signing keys.
pub(crate) struct ChainSigner {
    pub(crate) keys: Arc<KeySet>,
    pub(crate) judging: Arc<JudgingClock>,
    pub(crate) times: KeyTimes,
}

impl CheckpointKeys for ChainSigner {
    fn check(&self, kid: &str, message: &str, signature: &str) -> SignatureCheck {
        self.keys.check(kid, message, signature)
    }
}

impl CheckpointSigner for ChainSigner {
    fn sign(&self, message: &str) -> Result<SignedStatement, BoxError> {
        Ok(self.keys.sign_statement(message)?)
    }

    fn learn(&self, keys: &[SigningKey]) {
        // Of a new store nothing is known yet.
        if !keys.is_empty() {
            let now = self.judging.times().judged.second();
            let held = self.keys.current().held().to_vec();
            let known = SigningKeys(keys.to_vec());
            self.keys.replace(snapshot(held, &known, now, self.times));
        }
    }

    fn can_sign_tokens(&self) -> bool {
        self.keys.can_sign()
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
