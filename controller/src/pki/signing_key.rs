//! The broker's Ed25519 signing key in the form that every tool reads: PKCS#8 version 1 (RFC 8410 §7), 48 bytes.

use agentwrit_protocol::{Entropy, EntropyError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey;

/// Everything before the 32 bytes of the seed.
const PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A new key, PEM.
///
/// Fails when the system has no randomness.
pub(crate) fn generate(entropy: &dyn Entropy) -> Result<String, EntropyError> {
    let mut seed = [0_u8; 32];
    entropy.fill(&mut seed)?;
    let der = [PREFIX.as_slice(), seed.as_slice()].concat();
    Ok(format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der)
    ))
}

/// Checks that a stored key is one.
pub(crate) fn check(pem: &str) -> Result<(), String> {
    SigningKey::from_pkcs8_pem(pem)
        .map(drop)
        .map_err(|_| "it is not an Ed25519 private key in PKCS#8 PEM form".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentwrit_protocol::clock::SequenceEntropy;

    #[test]
    fn a_new_key_is_pkcs8_version_1_and_reads_back() {
        let entropy = SequenceEntropy::default();
        let pem = generate(&entropy).unwrap();
        check(&pem).unwrap();
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        assert_eq!(STANDARD.decode(body).unwrap().len(), 48);
        assert_ne!(pem, generate(&entropy).unwrap());
    }

    #[test]
    fn anything_else_is_no_key() {
        assert!(check("").is_err());
        assert!(check("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").is_err());
    }
}
