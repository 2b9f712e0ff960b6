//! The key of this process, and what it signs.
//!
//! It signs nothing but values of two types that can't be taken for one another: a [`Nonce`] is exactly 32 bytes, a
//! [`RenewalText`] never is. So no signature of a renewal can register, nor that of a registration renew.

use agentwrit_protocol::renewal_proof::{RenewalProof, RenewalText};
use agentwrit_protocol::{Entropy, EntropyError, Jti, UnixSeconds};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use secrecy::zeroize::Zeroize;

/// Bytes of a nonce.
pub(crate) const NONCE_BYTES: usize = 32;

/// The broker's nonce, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nonce([u8; NONCE_BYTES]);

/// What the broker gave is no nonce, and is not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NonceError {
    /// It is not hexadecimal.
    #[error("the broker's nonce is not hexadecimal; it must be 64 hexadecimal characters and is not signed")]
    Encoding,
    /// It has another length.
    #[error(
        "the broker's nonce has {0} bytes; it must have exactly {NONCE_BYTES}, in 64 hexadecimal characters, and is not \
         signed"
    )]
    Length(usize),
}

impl Nonce {
    /// Reads a nonce as `/v1/challenge` gives it: 64 hexadecimal characters.
    ///
    /// Fails when it is anything else.
    pub(crate) fn read(text: &str) -> Result<Self, NonceError> {
        let bytes = hex::decode(text).map_err(|_| NonceError::Encoding)?;
        let length = bytes.len();
        bytes.try_into().map(Self).map_err(|_| NonceError::Length(length))
    }
}

/// This process's key; it never leaves the memory.
pub(crate) struct AgentKey(SigningKey);

impl AgentKey {
    pub(crate) fn generate(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        let mut seed = [0_u8; 32];
        entropy.fill(&mut seed)?;
        let key = SigningKey::from_bytes(&seed);
        seed.zeroize();
        Ok(Self(key))
    }

    /// The public key: raw Ed25519, standard base64 with padding.
    pub(crate) fn public(&self) -> String {
        STANDARD.encode(self.0.verifying_key().as_bytes())
    }

    /// The signature that a registration needs, standard base64 with padding.
    pub(crate) fn sign_nonce(&self, nonce: &Nonce) -> String {
        STANDARD.encode(self.0.sign(&nonce.0).to_bytes())
    }

    /// The proof that the caller holds this key, for the renewal of an agent's token; `time` is the broker's.
    /// `None` when no broker can have made a token with these ids.
    pub(crate) fn prove(&self, agent_id: &str, jti: &Jti, time: UnixSeconds) -> Option<RenewalProof> {
        let text = RenewalText::of(agent_id, jti, time)?;
        Some(RenewalProof {
            time,
            signature: self.0.sign(text.as_bytes()).to_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentwrit_protocol::clock::SequenceEntropy;
    use ed25519_dalek::{Signature, VerifyingKey};

    #[test]
    fn the_signature_is_over_the_decoded_nonce() {
        let key = AgentKey::generate(&SequenceEntropy::default()).unwrap();
        let nonce = "00ff".repeat(16);
        let public: [u8; 32] = STANDARD.decode(key.public()).unwrap().try_into().unwrap();
        let signature = STANDARD.decode(key.sign_nonce(&Nonce::read(&nonce).unwrap())).unwrap();
        VerifyingKey::from_bytes(&public)
            .unwrap()
            .verify_strict(
                &hex::decode(&nonce).unwrap(),
                &Signature::from_slice(&signature).unwrap(),
            )
            .unwrap();
    }

    #[test]
    fn a_proof_is_over_domain_token_and_time() {
        let key = AgentKey::generate(&SequenceEntropy::default()).unwrap();
        let agent = "spiffe://agentwrit.local/agent/k8s.shop.orders/pod-1/0001";
        let time = UnixSeconds::new(1_800_000_000);
        let proof = key.prove(agent, &"jti-1".into(), time).unwrap();
        assert_eq!(proof.time, time);
        key.0
            .verifying_key()
            .verify_strict(
                b"agentwrit-renewal-v1\nagentwrit.local\njti-1\n1800000000",
                &Signature::from_bytes(&proof.signature),
            )
            .unwrap();
        assert_eq!(key.prove(agent, &"".into(), time), None);
    }

    #[test]
    fn only_32_bytes_are_a_nonce() {
        for (text, wrong) in [
            ("", NonceError::Length(0)),
            ("xyz", NonceError::Encoding),
            ("00f", NonceError::Encoding),
            (&"00".repeat(31), NonceError::Length(31)),
            (&"00".repeat(33), NonceError::Length(33)),
            // The text of a proof of possession, offered as a nonce.
            (
                &hex::encode("agentwrit-renewal-v1\nd\nj\n1800000000"),
                NonceError::Length(35),
            ),
            (&format!(" {}", "00".repeat(32)), NonceError::Encoding),
        ] {
            assert_eq!(Nonce::read(text), Err(wrong), "{text}");
            assert!(wrong.to_string().contains("64 hexadecimal characters"), "{wrong}");
        }
        assert_eq!(Nonce::read(&"Ff".repeat(32)), Ok(Nonce([0xff; 32])));
    }
}
