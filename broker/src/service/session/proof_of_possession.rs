//! Proof of possession: an Ed25519 signature over the nonce.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The y-coordinates of the points of small order (RFC 7748 §7, RFC 8032 §5.1.7), little-endian, each spelling of them:
/// 1, -1, 0, two of order 8, and 0 and 1 with p added. Under such a key anything verifies.
const SMALL_ORDER: [[u8; 32]; 7] = [
    near(0x01, 0x00, 0x00),
    near(0xec, 0xff, 0x7f),
    near(0x00, 0x00, 0x00),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    near(0xed, 0xff, 0x7f),
    near(0xee, 0xff, 0x7f),
];

const fn near(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

/// Why a proof is none; the texts are the contract's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProofError {
    #[error("invalid Ed25519 public key: base64 decode failed")]
    KeyEncoding,
    #[error("invalid Ed25519 public key: wrong key size")]
    KeySize,
    /// A small-order key: anything verifies under it.
    #[error("invalid Ed25519 public key: weak key")]
    KeyWeak,
    #[error("nonce signature verification failed: base64 decode failed")]
    SignatureEncoding,
    /// The signature is not the key's over the nonce; 32 bytes that are no point of the curve have signed nothing.
    #[error("nonce signature verification failed")]
    Signature,
}

impl ProofError {
    /// A static word for the audit trail.
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::KeyEncoding => "public_key_encoding",
            Self::KeySize => "public_key_size",
            Self::KeyWeak => "public_key_weak",
            Self::SignatureEncoding => "signature_encoding",
            Self::Signature => "signature_invalid",
        }
    }
}

/// Standard base64 with padding; line breaks inside are tolerated, as the contract has it.
fn decode(text: &str) -> Option<Vec<u8>> {
    // Whatever is no ASCII is no base64 either, and is not copied to find out.
    if !text.is_ascii() {
        return None;
    }
    STANDARD.decode(text.replace(['\r', '\n'], "")).ok()
}

fn is_weak(key: &[u8; 32]) -> bool {
    let mut y = *key;
    // The sign of x.
    y[31] &= 0x7f;
    SMALL_ORDER.contains(&y)
}

/// Checks a proof over the decoded nonce: key first, then signature.
pub(crate) fn check(public_key: &str, signature: &str, nonce: &str) -> Result<(), ProofError> {
    let key = decode(public_key).ok_or(ProofError::KeyEncoding)?;
    let key: [u8; 32] = key.try_into().map_err(|_| ProofError::KeySize)?;
    if is_weak(&key) {
        return Err(ProofError::KeyWeak);
    }
    let signature = decode(signature).ok_or(ProofError::SignatureEncoding)?;
    let message = hex::decode(nonce).map_err(|_| ProofError::Signature)?;
    UnparsedPublicKey::new(&ED25519, key)
        .verify(&message, &signature)
        .map_err(|_| ProofError::Signature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
    use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
    use proptest::prelude::*;

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
        // R = identity, S = 0 verifies under any of them for some messages, under the identity for all.
        let mut signature = [0_u8; 64];
        signature[0] = 1;
        for y in SMALL_ORDER {
            for sign in [0, 0x80] {
                let mut key = y;
                key[31] |= sign;
                let result = check(&STANDARD.encode(key), &STANDARD.encode(signature), &nonce);
                assert_eq!(result, Err(ProofError::KeyWeak), "{key:?}");
            }
        }
    }

    #[test]
    fn the_weak_keys_are_those_of_small_order_in_any_spelling() {
        for point in curve25519_dalek::constants::EIGHT_TORSION {
            assert!(is_weak(point.compress().as_bytes()));
        }
        let spelled = SMALL_ORDER
            .iter()
            .filter_map(|y| CompressedEdwardsY(*y).decompress())
            .filter(EdwardsPoint::is_small_order);
        assert_eq!(spelled.count(), SMALL_ORDER.len());
        // Other spellings than the usual one have a y below 2^255 - p = 19.
        for low in 0..19_u8 {
            let y = near(0xed + low, 0xff, 0x7f);
            let small = CompressedEdwardsY(y)
                .decompress()
                .is_some_and(|point| point.is_small_order());
            assert_eq!(is_weak(&y), small, "{low}");
        }
    }

    #[test]
    fn a_key_that_is_no_point_has_signed_nothing() {
        let nonce = "ab".repeat(32);
        let key = STANDARD.encode([2; 32]);
        assert!(VerifyingKey::from_bytes(&[2; 32]).is_err(), "no point");
        assert_eq!(check(&key, "***", &nonce), Err(ProofError::SignatureEncoding));
        assert_eq!(
            check(&key, &STANDARD.encode([7; 64]), &nonce),
            Err(ProofError::Signature)
        );
    }

    #[test]
    fn a_signature_has_one_spelling() {
        // L, the order of the base point (RFC 8032 §5.1): S and S + L verify alike in a lax verifier.
        let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
        let key = SigningKey::from_bytes(&[3; 32]);
        let mut signature = key.sign(&[0xab; 32]).to_bytes();
        let mut carry = 0;
        for (byte, add) in signature[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = u8::try_from(sum & 0xff).unwrap();
            carry = sum >> 8;
        }
        let public = STANDARD.encode(key.verifying_key().to_bytes());
        let result = check(&public, &STANDARD.encode(signature), &"ab".repeat(32));
        assert_eq!(result, Err(ProofError::Signature));
    }

    proptest! {
        #[test]
        fn the_answer_is_that_of_another_library(seed: [u8; 32], message: [u8; 32], at in 0_usize..128, flip in 0..=255_u8) {
            let key = SigningKey::from_bytes(&seed);
            let mut both = [0; 96];
            both[..32].copy_from_slice(&key.verifying_key().to_bytes());
            both[32..].copy_from_slice(&key.sign(&message).to_bytes());
            // In a quarter of the cases nothing is changed.
            if let Some(byte) = both.get_mut(at) {
                *byte ^= flip;
            }
            let (public, signature) = both.split_at(32);
            let known = VerifyingKey::from_bytes(public.try_into().unwrap())
                .and_then(|key| key.verify_strict(&message, &Signature::from_slice(signature).unwrap()));
            let result = check(&STANDARD.encode(public), &STANDARD.encode(signature), &hex::encode(message));
            prop_assert_eq!(result.is_ok(), known.is_ok());
        }
    }
}
