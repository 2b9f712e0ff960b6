//! The keys that tokens are signed with and checked against: one signs, others are published before or after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentwrit_protocol::audit::{CheckpointKeys, SignatureCheck, SignedStatement};
use parking_lot::RwLock;

pub use crate::key_pair::{KeyPair, PublicKey, RefusedKey, SigningError};

/// Which keys there are at one time. It never changes: [`KeySet::replace`]
/// puts another one in its place.
#[derive(Debug, Clone, Default)]
pub struct KeySnapshot {
    /// Keys that this process can sign with, the newest first.
    held: Vec<Arc<KeyPair>>,
    /// The one of them that signs tokens.
    signer: Option<Arc<KeyPair>>,
    /// The one of them that every replica holds: it seals nonces.
    settled: Option<Arc<KeyPair>>,
    /// Tokens that were signed with these are accepted; the newest first.
    published: Vec<PublicKey>,
    /// Id of the key that a token without `kid` is taken to be of.
    active: String,
    /// Every key that ever was, for the statements in the audit trail.
    all: BTreeMap<String, PublicKey>,
}

impl KeySnapshot {
    /// The keys that are held, the newest first; the one of them that signs; the published ones, the newest first, of
    /// which `active` is the one that signs, here or elsewhere; and those of before.
    pub fn of(
        held: Vec<Arc<KeyPair>>,
        signer: Option<&Arc<KeyPair>>,
        published: Vec<PublicKey>,
        active: &str,
        former: impl IntoIterator<Item = PublicKey>,
    ) -> Self {
        let public = held.iter().map(|pair| pair.public().clone());
        let all = former.into_iter().chain(public).chain(published.iter().cloned());
        Self {
            all: all.map(|key| (key.kid().to_owned(), key)).collect(),
            settled: signer.cloned(),
            signer: signer.cloned(),
            active: active.to_owned(),
            published,
            held,
        }
    }

    /// Another key than the one that signs seals nonces, since a replica may lack that one yet.
    #[must_use]
    pub fn settled_on(self, settled: Option<Arc<KeyPair>>) -> Self {
        Self { settled, ..self }
    }

    /// Keys that are held, in the order in which they were given.
    pub fn held(&self) -> &[Arc<KeyPair>] {
        &self.held
    }

    /// Whether the key with this id is held.
    pub fn holds(&self, kid: &str) -> bool {
        self.held.iter().any(|pair| pair.kid() == kid)
    }

    /// The keys before the store is known: one key does everything, and of several it isn't known yet which signs.
    pub fn provisional(held: Vec<Arc<KeyPair>>) -> Self {
        let only = match held.as_slice() {
            [only] => Some(Arc::clone(only)),
            _ => None,
        };
        let published = held.iter().map(|pair| pair.public().clone()).collect();
        let active = only.as_ref().map_or("", |only| only.kid());
        Self::of(held, only.as_ref(), published, active, [])
    }

    /// The published key with this id; none, or an empty one, means the active key.
    fn published(&self, kid: Option<&str>) -> Option<&PublicKey> {
        let kid = kid.filter(|kid| !kid.is_empty()).unwrap_or(&self.active);
        self.published.iter().find(|key| key.kid() == kid)
    }
}

/// The keys as the whole process shares them; they are replaced while it runs.
#[derive(Debug, Default)]
pub struct KeySet {
    current: RwLock<Arc<KeySnapshot>>,
}

impl KeySet {
    /// A set that begins with these keys.
    pub fn new(keys: KeySnapshot) -> Self {
        Self {
            current: RwLock::new(Arc::new(keys)),
        }
    }

    /// The set of one seed.
    ///
    /// # Errors
    /// When the cryptographic library refuses it.
    pub fn of_seed(seed: &[u8; 32]) -> Result<Self, RefusedKey> {
        let held = vec![Arc::new(KeyPair::new(seed)?)];
        Ok(Self::new(KeySnapshot::provisional(held)))
    }

    /// The keys as they are now.
    pub fn current(&self) -> Arc<KeySnapshot> {
        Arc::clone(&self.current.read())
    }

    /// Puts other keys in their place.
    pub fn replace(&self, keys: KeySnapshot) {
        *self.current.write() = Arc::new(keys);
    }

    fn signer(&self) -> Result<Arc<KeyPair>, SigningError> {
        self.current().signer.clone().ok_or(SigningError::NoKey)
    }

    /// Whether a key is held that may sign tokens now.
    pub fn can_sign(&self) -> bool {
        self.current.read().signer.is_some()
    }

    /// Id of the key that signs tokens, here or elsewhere.
    pub fn kid(&self) -> String {
        self.current.read().active.clone()
    }

    /// Signs a compact JWT over this payload.
    ///
    /// # Errors
    /// When the cryptographic library fails, or no key may sign.
    pub fn sign(&self, payload: &[u8]) -> Result<String, SigningError> {
        self.signer()?.sign(payload)
    }

    /// Signs a text: 128 lower-hex characters.
    ///
    /// # Errors
    /// When the cryptographic library fails, or no key may sign.
    pub fn sign_text(&self, text: &str) -> Result<String, SigningError> {
        self.signer()?.sign_text(text)
    }

    /// Signs a statement about the audit trail. Also with a key that may sign no tokens: the trail must go on, or
    /// nothing could be revoked.
    ///
    /// # Errors
    /// When the cryptographic library fails, or no key at all is held.
    pub fn sign_statement(&self, message: &str) -> Result<SignedStatement, SigningError> {
        let keys = self.current();
        let pair = keys.signer.as_ref().or_else(|| keys.held.first());
        let pair = pair.ok_or(SigningError::NoKey)?;
        Ok(SignedStatement {
            kid: pair.kid().to_owned(),
            signature: pair.sign_detached(message)?,
        })
    }

    /// Whether tokens with this `kid` are accepted; none means the active key.
    pub fn knows(&self, kid: Option<&str>) -> bool {
        self.current.read().published(kid).is_some()
    }

    /// Whether the published key `kid` made `signature` (base64url) over `message`.
    pub fn verify(&self, kid: Option<&str>, message: &str, signature: &str) -> bool {
        let keys = self.current();
        keys.published(kid).is_some_and(|key| key.verify(message, signature))
    }

    /// Whether any published key made `signature` (lower hex) over `text`: the entries of a delegation chain name none.
    pub fn verify_text(&self, text: &str, signature: &str) -> bool {
        let keys = self.current();
        keys.published.iter().any(|key| key.verify_text(text, signature))
    }

    /// What the keys of nonces are derived from: the first is that of new ones. It is one that every replica holds, for an
    /// agent may take its nonce to another one than it got it from.
    pub(crate) fn nonce_keys(&self) -> Vec<[u8; 32]> {
        let keys = self.current();
        let first = keys.settled.iter();
        let others = keys
            .held
            .iter()
            .filter(|pair| keys.published(Some(pair.kid())).is_some());
        let mut roots: Vec<[u8; 32]> = Vec::new();
        for pair in first.chain(others) {
            if !roots.contains(pair.nonce_key()) {
                roots.push(*pair.nonce_key());
            }
        }
        roots
    }

    /// The JSON Web Key Set (RFC 7517, RFC 8037): every published key, the active one first.
    pub fn jwks(&self) -> serde_json::Value {
        let keys = self.current();
        let (active, others): (Vec<_>, Vec<_>) = keys.published.iter().partition(|key| key.kid() == keys.active);
        let all: Vec<_> = active.into_iter().chain(others).map(PublicKey::jwk).collect();
        serde_json::json!({ "keys": all })
    }
}

impl CheckpointKeys for KeySet {
    fn check(&self, kid: &str, message: &str, signature: &str) -> SignatureCheck {
        match self.current().all.get(kid) {
            None => SignatureCheck::UnknownKey,
            Some(key) if key.verify(message, signature) => SignatureCheck::Valid,
            Some(_) => SignatureCheck::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(seed: u8) -> Arc<KeyPair> {
        Arc::new(KeyPair::new(&[seed; 32]).unwrap())
    }

    #[test]
    fn the_key_set_document_begins_with_the_active_key() {
        let (old, new) = (pair(1), pair(2));
        let public = vec![new.public().clone(), old.public().clone()];
        let keys = KeySet::new(KeySnapshot::of(vec![old.clone()], Some(&old), public, old.kid(), []));
        let jwks = keys.jwks();
        let kids: Vec<_> = jwks["keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key["kid"].as_str().unwrap())
            .collect();
        assert_eq!(kids, [old.kid(), new.kid()]);
        assert_eq!(jwks["keys"][1]["x"], new.public().x());
        assert_eq!(keys.kid(), old.kid());
    }

    #[test]
    fn without_a_key_that_signs_tokens_the_trail_is_still_signed() {
        let held = pair(1);
        let other = pair(2).public().clone();
        let kid = other.kid().to_owned();
        let keys = KeySet::new(KeySnapshot::of(vec![held.clone()], None, vec![other], &kid, []));
        assert!(!keys.can_sign());
        assert_eq!(keys.sign(b"{}"), Err(SigningError::NoKey));
        assert_eq!(keys.sign_text("x"), Err(SigningError::NoKey));
        let signed = keys.sign_statement("x").unwrap();
        assert_eq!(signed.kid, held.kid());
        assert_eq!(keys.check(held.kid(), "x", &signed.signature), SignatureCheck::Valid);
        assert_eq!(keys.check(held.kid(), "y", &signed.signature), SignatureCheck::Invalid);
        assert_eq!(keys.check("z", "x", &signed.signature), SignatureCheck::UnknownKey);
        assert!(
            !keys.verify(Some(held.kid()), "x", &signed.signature),
            "no token of it is accepted"
        );
        assert_eq!(KeySet::default().sign_statement("x"), Err(SigningError::NoKey));
    }

    #[test]
    fn entries_of_a_chain_may_be_of_any_published_key() {
        let (old, new) = (pair(1), pair(2));
        let public = vec![new.public().clone(), old.public().clone()];
        let keys = KeySet::new(KeySnapshot::of(vec![new.clone()], Some(&new), public, new.kid(), []));
        for pair in [&old, &new] {
            assert!(keys.verify_text("a|b|c", &pair.sign_text("a|b|c").unwrap()));
        }
        assert!(!keys.verify_text("a|b|c", &pair(3).sign_text("a|b|c").unwrap()));
    }
}
