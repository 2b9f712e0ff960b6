//! Stateless nonces: 10 random bytes ‖ 6 bytes expiry (Unix ms) ‖ 16 bytes HMAC.

use std::sync::Arc;

use agentwrit_protocol::{Entropy, EntropyError, Ttl, UnixMillis, lower_hex};
use aws_lc_rs::constant_time::verify_slices_are_equal;

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
/// nonces were used, so it takes none from before.
pub struct NonceIssuer {
    root: [u8; 32],
    entropy: Arc<dyn Entropy>,
}

impl NonceIssuer {
    /// `root` is what the keys of nonces are derived from.
    pub fn new(root: [u8; 32], entropy: Arc<dyn Entropy>) -> Self {
        Self { root, entropy }
    }

    fn key(&self, epoch: &str) -> [u8; 32] {
        mac(&self.root, epoch.as_bytes())
    }

    /// Makes a nonce that lives 30 seconds.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn issue(&self, epoch: &str, now: UnixMillis) -> Result<String, EntropyError> {
        let mut head = [0_u8; 16];
        let (random, expiry) = head.split_at_mut(10);
        self.entropy.fill(random)?;
        let [_, _, bytes @ ..] = (now + NONCE_TTL).get().to_be_bytes();
        expiry.copy_from_slice(&bytes);
        Ok(lower_hex([head, mac(&self.key(epoch), &head)].as_flattened()))
    }

    /// Reads a nonce; `None` when it is not ours, or not exactly as we wrote it. Says nothing about expiry.
    pub fn read(&self, epoch: &str, text: &str) -> Option<Nonce> {
        if text.len() != 64 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        let bytes: [u8; 32] = hex::decode(text).ok()?.try_into().ok()?;
        let (head, given) = bytes.split_at(16);
        verify_slices_are_equal(&mac::<16>(&self.key(epoch), head), given).ok()?;
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
    use agentwrit_protocol::clock::SequenceEntropy;

    #[test]
    fn only_our_own_nonces_are_read() {
        let nonces = NonceIssuer::new([1; 32], Arc::new(SequenceEntropy::default()));
        let text = nonces.issue("epoch", UnixMillis::new(1_000_000)).unwrap();
        assert_eq!(
            nonces.read("epoch", &text),
            Some(Nonce {
                text: text.clone(),
                expires_at: UnixMillis::new(1_030_000)
            })
        );
        assert_eq!(nonces.read("other", &text), None);
        let others = NonceIssuer::new([2; 32], Arc::new(SequenceEntropy::default()));
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
}
