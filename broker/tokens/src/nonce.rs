//! Stateless nonces: 10 random bytes ‖ 6 bytes expiry (Unix ms) ‖ 16 bytes HMAC.

use std::sync::Arc;

use agentwrit_protocol::{Entropy, EntropyError, Ttl, UnixMillis, lower_hex};
use aws_lc_rs::constant_time::verify_slices_are_equal;

use crate::key_set::{KeySet, SigningError};
use crate::mac::mac;

/// Life of a nonce.
pub const NONCE_TTL: Ttl = Ttl::seconds(30);

/// A nonce of ours, before it is known whether it was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonce {
    /// 64 lower-hex characters, as on the wire.
    pub text: String,
    /// When its life is over.
    pub expires_at: UnixMillis,
}

/// Makes nonces and knows them again. Those of a store are sealed with its `epoch`: a new store has forgotten which
/// nonces were used, so it takes none from before. New ones are sealed with a key that every replica holds, and those of
/// every other published key that is held are taken, so that none is lost while keys change, at whichever replica.
pub struct NonceIssuer {
    keys: Arc<KeySet>,
    entropy: Arc<dyn Entropy>,
}

/// Why no nonce is made.
#[derive(Debug, thiserror::Error)]
pub enum NonceError {
    /// There is no randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// No published key is held.
    #[error(transparent)]
    Key(#[from] SigningError),
}

impl NonceIssuer {
    /// The keys of nonces are derived from `keys`.
    pub fn new(keys: Arc<KeySet>, entropy: Arc<dyn Entropy>) -> Self {
        Self { keys, entropy }
    }

    /// Makes a nonce that lives 30 seconds.
    ///
    /// # Errors
    /// When there is no randomness, or no key.
    pub fn issue(&self, epoch: &str, now: UnixMillis) -> Result<String, NonceError> {
        let roots = self.keys.nonce_keys();
        let root = roots.first().ok_or(SigningError::NoKey)?;
        let mut head = [0_u8; 16];
        let (random, expiry) = head.split_at_mut(10);
        self.entropy.fill(random)?;
        let [_, _, bytes @ ..] = (now + NONCE_TTL).get().to_be_bytes();
        expiry.copy_from_slice(&bytes);
        Ok(lower_hex(
            [head, mac(&mac::<32>(root, epoch.as_bytes()), &head)].as_flattened(),
        ))
    }

    /// Reads a nonce; `None` when it is not ours, or not exactly as we wrote it. Says nothing about expiry.
    pub fn read(&self, epoch: &str, text: &str) -> Option<Nonce> {
        if text.len() != 64 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        let bytes: [u8; 32] = hex::decode(text).ok()?.try_into().ok()?;
        let (head, given) = bytes.split_at(16);
        let is_by = |root: &[u8; 32]| {
            let seal = mac::<16>(&mac::<32>(root, epoch.as_bytes()), head);
            verify_slices_are_equal(&seal, given).is_ok()
        };
        self.keys.nonce_keys().iter().find(|root| is_by(root))?;
        let (_, expiry) = head.split_at(10);
        let expires_at = expiry.iter().fold(0_i64, |sum, byte| (sum << 8) | i64::from(*byte));
        Some(Nonce {
            text: text.to_owned(),
            expires_at: UnixMillis::new(expires_at),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_set::{KeyPair, KeySnapshot};
    use agentwrit_protocol::clock::SequenceEntropy;

    fn issuer(seed: u8) -> NonceIssuer {
        let keys = Arc::new(KeySet::of_seed(&[seed; 32]).unwrap());
        NonceIssuer::new(keys, Arc::new(SequenceEntropy::default()))
    }

    #[test]
    fn only_our_own_nonces_are_read() {
        let nonces = issuer(1);
        let text = nonces.issue("epoch", UnixMillis::new(1_000_000)).unwrap();
        assert_eq!(
            nonces.read("epoch", &text),
            Some(Nonce {
                text: text.clone(),
                expires_at: UnixMillis::new(1_030_000)
            })
        );
        assert_eq!(nonces.read("other", &text), None);
        let others = issuer(2);
        assert_eq!(others.read("epoch", &text), None);
        assert_eq!(nonces.read("epoch", &text.to_uppercase()), None);
        assert_eq!(nonces.read("epoch", ""), None);
        for position in [0, 25, 63] {
            let mut forged = text.clone();
            let digit = if text.as_bytes()[position] == b'0' { "1" } else { "0" };
            forged.replace_range(position..=position, digit);
            assert_eq!(nonces.read("epoch", &forged), None, "{position}");
        }
        assert_ne!(nonces.issue("epoch", UnixMillis::new(1_000_000)).unwrap(), text);
    }

    #[test]
    fn nonces_outlive_a_change_of_keys_but_not_a_retired_key() {
        let nonces = issuer(1);
        let now = UnixMillis::new(1_000_000);
        let before = nonces.issue("epoch", now).unwrap();
        let [old, new] = [1, 2].map(|seed| Arc::new(KeyPair::new(&[seed; 32]).unwrap()));
        let held = vec![Arc::clone(&new), Arc::clone(&old)];
        let published = |pairs: &[&Arc<KeyPair>]| pairs.iter().map(|pair| pair.public().clone()).collect();
        let both = KeySnapshot::of(held.clone(), Some(&new), published(&[&new, &old]), new.kid(), []);
        nonces.keys.replace(both);
        let after = nonces.issue("epoch", now).unwrap();
        assert!(nonces.read("epoch", &before).is_some() && nonces.read("epoch", &after).is_some());
        assert!(issuer(2).read("epoch", &after).is_some() && issuer(1).read("epoch", &after).is_none());
        let both = KeySnapshot::of(held.clone(), Some(&new), published(&[&new, &old]), new.kid(), []);
        nonces.keys.replace(both.settled_on(Some(old.clone())));
        let read_everywhere = nonces.issue("epoch", now).unwrap();
        assert!(
            issuer(1).read("epoch", &read_everywhere).is_some(),
            "a replica may lack the new key yet"
        );
        assert!(nonces.read("epoch", &after).is_some() && nonces.read("epoch", &read_everywhere).is_some());
        let retired = KeySnapshot::of(held, Some(&new), published(&[&new]), new.kid(), [old.public().clone()]);
        nonces.keys.replace(retired);
        assert!(nonces.read("epoch", &before).is_none() && nonces.read("epoch", &after).is_some());
        nonces.keys.replace(KeySnapshot::default());
        let refused = nonces.issue("epoch", now).unwrap_err();
        assert!(matches!(refused, NonceError::Key(SigningError::NoKey)), "{refused}");
        assert!(nonces.read("epoch", &after).is_none());
    }
}
