//! One Ed25519 key: its thumbprint, its signatures, its public half.

use agentwrit_protocol::signing_keys::thumbprint;
use aws_lc_rs::signature::{Ed25519KeyPair, Signature};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{SigningKey, VerifyingKey};
use jsonwebtoken::{Algorithm, DecodingKey};

use crate::mac::mac;

/// A signature in base64url without padding, bytes.
const ENCODED_SIGNATURE: usize = 86;

/// The cryptographic library failed to sign, or there is no key to sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// The library failed.
    #[error("the library can't sign")]
    Library,
    /// No key is held that may sign tokens now.
    #[error("no key is held that may sign tokens")]
    NoKey,
}

/// The cryptographic library refuses a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the library refuses the key")]
pub struct RefusedKey;

/// The public half of a key, by which its signatures are checked.
#[derive(Clone)]
pub struct PublicKey {
    kid: String,
    x: String,
    verifying: DecodingKey,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublicKey")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

impl PublicKey {
    fn of(public: &[u8; 32]) -> Self {
        let x = URL_SAFE_NO_PAD.encode(public);
        Self {
            kid: thumbprint(&x),
            verifying: DecodingKey::from_ed_der(public),
            x,
        }
    }

    /// Reads the member `x` of a JSON Web Key (RFC 8037): 32 bytes in base64url without padding that are a point of the
    /// curve.
    pub fn from_x(x: &str) -> Option<Self> {
        let bytes: [u8; 32] = URL_SAFE_NO_PAD.decode(x).ok()?.try_into().ok()?;
        VerifyingKey::from_bytes(&bytes).ok()?;
        Some(Self::of(&bytes))
    }

    /// RFC 7638 thumbprint.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The member `x` of its JSON Web Key.
    pub fn x(&self) -> &str {
        &self.x
    }

    /// Whether it made `signature` (base64url without padding) over `message`.
    pub fn verify(&self, message: &str, signature: &str) -> bool {
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.verifying, Algorithm::EdDSA).unwrap_or(false)
    }

    /// Whether it made `signature` (128 lower-hex characters) over `text`.
    pub fn verify_text(&self, text: &str, signature: &str) -> bool {
        let strict = signature.len() == 128 && !signature.bytes().any(|byte| byte.is_ascii_uppercase());
        strict && hex::decode(signature).is_ok_and(|bytes| self.verify(text, &URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Its JSON Web Key (RFC 7517, RFC 8037).
    pub(crate) fn jwk(&self) -> serde_json::Value {
        serde_json::json!({
            "kty": "OKP", "crv": "Ed25519", "x": self.x, "kid": self.kid, "alg": "EdDSA", "use": "sig",
        })
    }
}

/// A key that this process can sign with.
pub struct KeyPair {
    public: PublicKey,
    encoded_header: String,
    signing: Ed25519KeyPair,
    nonce_key: [u8; 32],
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair")
            .field("kid", &self.public.kid)
            .finish_non_exhaustive()
    }
}

impl KeyPair {
    /// The key of a seed.
    ///
    /// # Errors
    /// When the cryptographic library refuses it.
    pub fn new(seed: &[u8; 32]) -> Result<Self, RefusedKey> {
        let bytes = SigningKey::from_bytes(seed).verifying_key().to_bytes();
        let public = PublicKey::of(&bytes);
        let header = format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{}"}}"#, public.kid);
        Ok(Self {
            encoded_header: URL_SAFE_NO_PAD.encode(header),
            // Kept: jsonwebtoken would derive the public key again for each signature, which nearly doubles its cost.
            signing: Ed25519KeyPair::from_seed_and_public_key(seed, &bytes).map_err(|_| RefusedKey)?,
            nonce_key: mac(seed, b"agentwrit nonce v1"),
            public,
        })
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// RFC 7638 thumbprint.
    pub fn kid(&self) -> &str {
        &self.public.kid
    }

    /// What the keys of nonces are derived from.
    pub(crate) fn nonce_key(&self) -> &[u8; 32] {
        &self.nonce_key
    }

    fn signature(&self, message: &[u8]) -> Result<Signature, SigningError> {
        self.signing.try_sign(message).map_err(|_| SigningError::Library)
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

    /// Signs a text: 128 lower-hex characters.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn sign_text(&self, text: &str) -> Result<String, SigningError> {
        Ok(agentwrit_protocol::lower_hex(self.signature(text.as_bytes())?))
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
        let key = KeyPair::new(&seed).unwrap();
        let public = key.public();
        assert_eq!(key.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        let token = key.sign(b"{}").unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        assert!(public.verify(message, signature));
        assert!(!public.verify("x", signature));
        assert!(!KeyPair::new(&[1; 32]).unwrap().public().verify(message, signature));
        let signature = key.sign_text("a|b|c").unwrap();
        assert!(public.verify_text("a|b|c", &signature) && !public.verify_text("a|b|d", &signature));
        for other in [
            signature.to_uppercase(),
            format!("{signature}00"),
            String::new(),
            "x".repeat(128),
        ] {
            assert!(!public.verify_text("a|b|c", &other), "{other}");
        }
    }

    #[test]
    fn the_key_of_nonces_is_derived_from_the_seed() {
        // Computed with Python's hmac: a restart must take the nonces of before.
        let wanted = "9251d2e35538da81653d8fe55f921dc00ae80fa3e8bc214c8218b67492697336";
        assert_eq!(hex::encode(KeyPair::new(&[5; 32]).unwrap().nonce_key()), wanted);
    }

    #[test]
    fn a_public_key_is_read_from_its_x_and_from_nothing_else() {
        let key = KeyPair::new(&[5; 32]).unwrap();
        let read = PublicKey::from_x(key.public().x()).unwrap();
        assert_eq!(read.kid(), key.kid());
        assert!(read.verify("x", &key.sign_detached("x").unwrap()));
        let no_point = URL_SAFE_NO_PAD.encode([2; 32]);
        let padded = format!("{}=", read.x());
        for x in ["", "AAAA", &no_point, &padded, "é"] {
            assert!(PublicKey::from_x(x).is_none(), "{x}");
        }
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let key = KeyPair::new(&[5; 32]).unwrap();
        assert_eq!(format!("{key:?}"), format!("KeyPair {{ kid: {:?}, .. }}", key.kid()));
        assert_eq!(
            format!("{:?}", key.public()),
            format!("PublicKey {{ kid: {:?}, .. }}", key.kid())
        );
    }
}
