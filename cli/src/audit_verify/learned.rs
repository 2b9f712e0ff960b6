//! Keys that the trail itself tells of: the broker publishes each in an event, which a statement of a key of before covers.

use agentwrit_client::{Jwk, Jwks};
use agentwrit_protocol::audit::{AuditEvent, CheckpointKeys, EventType, SignatureCheck, Step};
use agentwrit_protocol::signing_keys::published_key;

/// Keys that were met.
#[derive(Debug, Default)]
pub(super) struct LearnedKeys {
    /// Covered by the statement of a key that was known.
    known: Jwks,
    /// Not yet.
    pending: Vec<Jwk>,
}

/// Keys that are known beforehand, and those that were learned.
pub(super) struct Beside<'a> {
    before: &'a dyn CheckpointKeys,
    known: &'a Jwks,
}

impl CheckpointKeys for Beside<'_> {
    fn check(&self, kid: &str, message: &str, signature: &str) -> SignatureCheck {
        match self.before.check(kid, message, signature) {
            SignatureCheck::UnknownKey => self.known.check(kid, message, signature),
            other => other,
        }
    }
}

impl LearnedKeys {
    pub(super) fn beside<'a>(&'a self, before: &'a dyn CheckpointKeys) -> Beside<'a> {
        let known = &self.known;
        Beside { before, known }
    }

    /// Takes note of an event that fits.
    pub(super) fn meet(&mut self, event: &AuditEvent, step: Step) {
        if matches!(step, Step::Signed) {
            self.known.keys.append(&mut self.pending);
        } else if event.event_type == EventType::KeyPublished.as_str()
            && let Some((kid, x)) = published_key(&event.detail)
        {
            self.pending.push(Jwk::ed25519(kid, x));
        }
    }
}
