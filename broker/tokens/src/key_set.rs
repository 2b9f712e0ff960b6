//! The signing key: thumbprint, JWKS, signatures, and the keys derived from it.

use agentwrit_protocol::audit::{CheckpointKeys, SignatureCheck};
use agentwrit_protocol::lower_hex;
use aws_lc_rs::signature::{Ed25519KeyPair, Signature};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use jsonwebtoken::{Algorithm, DecodingKey};
use sha2::{Digest, Sha256};

use crate::mac::mac;

/// A signature in base64url without padding, bytes.
const ENCODED_SIGNATURE: usize = 86;

/// Why there is no signing key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// `AA_SIGNING_KEY_REQUIRED` and no file.
    #[error("signing key: {path} does not exist and AA_SIGNING_KEY_REQUIRED is true")]
    Missing {
        /// The file.
        path: String,
    },
    /// The file can't be read or made.
    #[error("signing key: {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("signing key: {path} must be a PEM block PRIVATE KEY with an Ed25519 key in PKCS#8")]
    Format {
        /// The file.
        path: String,
    },
    /// No randomness to make one.
    #[error("signing key: {0}")]
    Entropy(#[from] agentwrit_protocol::EntropyError),
    /// The cryptographic library refused it.
    #[error("signing key: the library refuses it")]
    Refused,
}

/// The cryptographic library failed to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the library can't sign")]
pub struct SigningError;

/// The keys that tokens are signed with and checked against.
pub struct KeySet {
    kid: String,
    x: String,
    encoded_header: String,
    signing: Ed25519KeyPair,
    verifying: DecodingKey,
    nonce_key: [u8; 32],
    pub(crate) made: bool,
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySet").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl KeySet {
    /// The key set of one seed.
    ///
    /// # Errors
    /// When the cryptographic library refuses it.
    pub fn new(seed: &[u8; 32]) -> Result<Self, KeyError> {
        let public = SigningKey::from_bytes(seed).verifying_key().to_bytes();
        let x = URL_SAFE_NO_PAD.encode(public);
        let thumbprint = Sha256::digest(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#).as_bytes());
        let kid = URL_SAFE_NO_PAD.encode(thumbprint);
        let header = format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{kid}"}}"#);
        Ok(Self {
            encoded_header: URL_SAFE_NO_PAD.encode(header),
            // Kept: jsonwebtoken would derive the public key again for each signature, which nearly doubles its cost.
            signing: Ed25519KeyPair::from_seed_and_public_key(seed, &public).map_err(|_| KeyError::Refused)?,
            verifying: DecodingKey::from_ed_der(&public),
            nonce_key: mac(seed, b"agentwrit nonce v1"),
            made: false,
            kid,
            x,
        })
    }

    fn signature(&self, message: &[u8]) -> Result<Signature, SigningError> {
        self.signing.try_sign(message).map_err(|_| SigningError)
    }

    /// Signs a text that is no JWT; the signature is base64url without padding.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn sign_detached(&self, message: &str) -> Result<String, SigningError> {
        Ok(URL_SAFE_NO_PAD.encode(self.signature(message.as_bytes())?))
    }

    /// Signs a compact JWT over this payload.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn sign(&self, payload: &[u8]) -> Result<String, SigningError> {
        let length = self.encoded_header.len() + payload.len() * 4 / 3 + ENCODED_SIGNATURE + 4;
        let mut token = String::with_capacity(length);
        token.push_str(&self.encoded_header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let signature = self.signature(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// Whether `signature` (base64url) is ours over `message`.
    pub fn verify(&self, message: &str, signature: &str) -> bool {
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.verifying, Algorithm::EdDSA).unwrap_or(false)
    }

    /// Signs a text: 128 lower-hex characters.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn sign_text(&self, text: &str) -> Result<String, SigningError> {
        Ok(lower_hex(self.signature(text.as_bytes())?))
    }

    /// Whether `signature` (lower hex) is ours over `text`.
    pub fn verify_text(&self, text: &str, signature: &str) -> bool {
        let strict = signature.len() == 128 && !signature.bytes().any(|byte| byte.is_ascii_uppercase());
        strict && hex::decode(signature).is_ok_and(|bytes| self.verify(text, &URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Whether a token with this `kid` may be ours; none means the active key.
    pub fn knows(&self, kid: Option<&str>) -> bool {
        kid.is_none_or(|kid| kid.is_empty() || kid == self.kid)
    }

    /// Whether the key was made just now, so that there are no tokens of before.
    pub fn made(&self) -> bool {
        self.made
    }

    /// RFC 7638 thumbprint of the active key.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What the keys of nonces are derived from.
    pub fn nonce_key(&self) -> &[u8; 32] {
        &self.nonce_key
    }

    /// The JSON Web Key Set (RFC 7517, RFC 8037).
    pub fn jwks(&self) -> serde_json::Value {
        serde_json::json!({"keys": [{
            "kty": "OKP", "crv": "Ed25519", "x": self.x, "kid": self.kid, "alg": "EdDSA", "use": "sig",
        }]})
    }
}

impl CheckpointKeys for KeySet {
    fn check(&self, kid: &str, message: &str, signature: &str) -> SignatureCheck {
        if kid != self.kid {
            SignatureCheck::UnknownKey
        } else if self.verify(message, signature) {
            SignatureCheck::Valid
        } else {
            SignatureCheck::Invalid
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_verify_and_the_kid_is_the_thumbprint_of_rfc_8037() {
        // RFC 8037, appendix A.3: the thumbprint of the key of A.1.
        let seed: [u8; 32] = URL_SAFE_NO_PAD
            .decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
            .unwrap()
            .try_into()
            .unwrap();
        let keys = KeySet::new(&seed).unwrap();
        assert_eq!(keys.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        let token = keys.sign(b"{}").unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        assert!(keys.verify(message, signature));
        assert!(!keys.verify("x", signature));
        assert!(!KeySet::new(&[1; 32]).unwrap().verify(message, signature));
        let signature = keys.sign_text("a|b|c").unwrap();
        assert!(keys.verify_text("a|b|c", &signature) && !keys.verify_text("a|b|d", &signature));
        for other in [
            signature.to_uppercase(),
            format!("{signature}00"),
            String::new(),
            "x".repeat(128),
        ] {
            assert!(!keys.verify_text("a|b|c", &other), "{other}");
        }
    }

    #[test]
    fn the_key_of_nonces_is_derived_from_the_seed() {
        // Computed with Python's hmac: a restart must take the nonces of before.
        let wanted = "9251d2e35538da81653d8fe55f921dc00ae80fa3e8bc214c8218b67492697336";
        assert_eq!(hex::encode(KeySet::new(&[5; 32]).unwrap().nonce_key()), wanted);
    }
}
