//! Proof of possession: an Ed25519 signature over the nonce, checked strictly.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};

/// Why a proof is none; the texts are the contract's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The key is no standard base64 with padding.
    #[error("invalid Ed25519 public key: base64 decode failed")]
    KeyEncoding,
    /// The key has not 32 bytes.
    #[error("invalid Ed25519 public key: wrong key size")]
    KeySize,
    /// 32 bytes that are no point of the curve.
    #[error("invalid Ed25519 public key: not a curve point")]
    KeyPoint,
    /// A small-order key: anything verifies under it.
    #[error("invalid Ed25519 public key: weak key")]
    KeyWeak,
    /// The signature is no standard base64 with padding.
    #[error("nonce signature verification failed: base64 decode failed")]
    SignatureEncoding,
    /// The signature is not the key's over the nonce.
    #[error("nonce signature verification failed")]
    Signature,
}

impl ProofError {
    /// A static word for the audit trail.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::KeyEncoding => "public_key_encoding",
            Self::KeySize => "public_key_size",
            Self::KeyPoint => "public_key_invalid",
            Self::KeyWeak => "public_key_weak",
            Self::SignatureEncoding => "signature_encoding",
            Self::Signature => "signature_invalid",
        }
    }
}

/// Standard base64 with padding; line breaks inside are tolerated, as the contract has it.
fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text.replace(['\r', '\n'], "")).ok()
}

/// Checks a proof over the decoded nonce: key first, then signature.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(public_key: &str, signature: &str, nonce: &str) -> Result<(), ProofError> {
    let key = decode(public_key).ok_or(ProofError::KeyEncoding)?;
    let key: [u8; 32] = key.try_into().map_err(|_| ProofError::KeySize)?;
    let key = VerifyingKey::from_bytes(&key).map_err(|_| ProofError::KeyPoint)?;
    if key.is_weak() {
        return Err(ProofError::KeyWeak);
    }
    let signature = decode(signature).ok_or(ProofError::SignatureEncoding)?;
    let signature = Signature::from_slice(&signature).map_err(|_| ProofError::Signature)?;
    let message = hex::decode(nonce).map_err(|_| ProofError::Signature)?;
    key.verify_strict(&message, &signature)
        .map_err(|_| ProofError::Signature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};

    #[test]
    fn only_the_keys_own_signature_over_the_nonce_is_a_proof() {
        let key = SigningKey::from_bytes(&[3; 32]);
        let public = STANDARD.encode(key.verifying_key().to_bytes());
        let nonce = "ab".repeat(32);
        let good = STANDARD.encode(key.sign(&[0xab; 32]).to_bytes());
        assert_eq!(check(&public, &good, &nonce), Ok(()));
        assert_eq!(
            check(&format!("{}\r\n{}", &public[..10], &public[10..]), &good, &nonce),
            Ok(())
        );
        assert_eq!(check(&public, &good, &"ac".repeat(32)), Err(ProofError::Signature));
        assert_eq!(
            check(&public, &STANDARD.encode([0; 10]), &nonce),
            Err(ProofError::Signature)
        );
        assert_eq!(check(&public, "***", &nonce), Err(ProofError::SignatureEncoding));
        assert_eq!(
            check(public.trim_end_matches('='), &good, &nonce),
            Err(ProofError::KeyEncoding)
        );
        assert_eq!(
            check(&STANDARD.encode([1; 31]), &good, &nonce),
            Err(ProofError::KeySize)
        );
    }

    #[test]
    fn small_order_keys_are_weak() {
        let nonce = "ab".repeat(32);
        let mut identity = [0_u8; 32];
        identity[0] = 1;
        // R = identity, S = 0 verifies under the identity key without strictness.
        let mut signature = [0_u8; 64];
        signature[0] = 1;
        for key in [identity, [0; 32]] {
            let result = check(&STANDARD.encode(key), &STANDARD.encode(signature), &nonce);
            assert_eq!(result, Err(ProofError::KeyWeak), "{key:?}");
        }
    }
}
