//! The broker's keys and revocation view, as the store knows them.

use std::sync::Arc;

use agentwrit_protocol::audit::{CheckpointKeys, SignatureCheck};
use agentwrit_protocol::session::RevocationView;
use agentwrit_protocol::signing_keys::{KeyTimes, SigningKeys};
use agentwrit_protocol::{JudgingClock, UnixSeconds};

use agentwrit_store::{
    BoxError, CheckpointSigner, RevocationListener, RevocationLoad, SignedStatement, SigningKey, ViewChange,
};
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

/// A view that is being loaded, beside the one that answers.
struct Loading<'s> {
    shared: &'s SharedRevocationView,
    view: RevocationView,
}

impl RevocationLoad for Loading<'_> {
    fn take(&mut self, change: ViewChange) {
        self.view.apply(change);
    }

    fn done(self: Box<Self>) {
        self.shared.replace(self.view);
    }
}

impl RevocationListener for ViewFollower {
    fn load(&self, min_iat: UnixSeconds) -> Box<dyn RevocationLoad + '_> {
        Box::new(Loading {
            shared: &self.0,
            view: RevocationView::loaded(min_iat, []),
        })
    }

    fn changed(&self, changes: Vec<ViewChange>) {
        self.0.apply(changes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expired(jti: &str) -> ViewChange {
        ViewChange::Expired {
            jti: jti.into(),
            until: agentwrit_protocol::UnixMillis::MAX,
        }
    }

    #[test]
    fn the_known_view_stands_until_another_is_loaded_whole() {
        let view = Arc::new(SharedRevocationView::unloaded());
        let follower = ViewFollower(Arc::clone(&view));
        let mut load = follower.load(UnixSeconds::new(5));
        load.take(expired("a"));
        assert_eq!((view.entries(), view.min_iat()), (0, UnixSeconds::new(0)));
        load.done();
        assert_eq!((view.entries(), view.min_iat()), (1, UnixSeconds::new(5)));
        let mut unfinished = follower.load(UnixSeconds::new(6));
        unfinished.take(expired("b"));
        unfinished.take(expired("c"));
        drop(unfinished);
        follower.changed(vec![expired("d")]);
        assert_eq!((view.entries(), view.min_iat()), (2, UnixSeconds::new(5)));
        follower.load(UnixSeconds::new(7)).done();
        assert_eq!((view.entries(), view.min_iat()), (0, UnixSeconds::new(7)));
    }
}
