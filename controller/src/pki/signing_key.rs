//! The broker's Ed25519 signing key in the form that every tool reads: PKCS#8 version 1 (RFC 8410 §7), 48 bytes.

use agentwrit_protocol::ed25519_pkcs8::private_key_pem;
use agentwrit_protocol::signing_keys::thumbprint;
use agentwrit_protocol::{Entropy, EntropyError};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey;

/// A new key, PEM.
///
/// Fails when the system has no randomness.
pub(crate) fn generate(entropy: &dyn Entropy) -> Result<String, EntropyError> {
    let mut seed = [0_u8; 32];
    entropy.fill(&mut seed)?;
    Ok(private_key_pem(&seed))
}

/// The id of a stored key.
///
/// Fails when it is none.
pub(crate) fn kid(pem: &str) -> Result<String, String> {
    let key = SigningKey::from_pkcs8_pem(pem.trim())
        .map_err(|_| "it is not an Ed25519 private key in PKCS#8 PEM form".to_owned())?;
    Ok(thumbprint(&URL_SAFE_NO_PAD.encode(key.verifying_key().to_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentwrit_protocol::clock::SequenceEntropy;
    use base64::engine::general_purpose::STANDARD;

    #[test]
    fn a_new_key_is_pkcs8_version_1_and_reads_back() {
        let entropy = SequenceEntropy::default();
        let pem = generate(&entropy).unwrap();
        assert_eq!(kid(&pem).unwrap().len(), 43);
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        assert_eq!(STANDARD.decode(body).unwrap().len(), 48);
        assert_ne!(pem, generate(&entropy).unwrap());
    }

    #[test]
    fn anything_else_is_no_key() {
        assert!(kid("").is_err());
        assert!(kid("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").is_err());
    }
}
