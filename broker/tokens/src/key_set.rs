//! The signing key: file, thumbprint, JWKS, and the keys derived from it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use agentwrit_protocol::audit::{CheckpointKeys, SignatureCheck};
use agentwrit_protocol::{Entropy, lower_hex};
use aws_lc_rs::signature::{Ed25519KeyPair, Signature};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey;
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{Algorithm, DecodingKey};
use sha2::{Digest, Sha256};

/// PKCS#8 v1 (RFC 8410 §7) of an Ed25519 seed, up to the seed. OpenSSL 3.0 can't read v2.
const PKCS8_V1_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

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
        source: io::Error,
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

impl KeyError {
    fn of(path: &Path, source: io::Error) -> Self {
        Self::File {
            path: path.display().to_string(),
            source,
        }
    }
}

/// The keys that tokens are signed with and checked against.
pub struct KeySet {
    kid: String,
    x: String,
    encoded_header: String,
    signing: Ed25519KeyPair,
    verifying: DecodingKey,
    nonce_key: [u8; 32],
    made: bool,
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySet").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl KeySet {
    /// Reads the key from its file, or makes it.
    ///
    /// # Errors
    /// When the file can't be read or made, or holds something else.
    pub fn load_or_create(path: &Path, required: bool, entropy: &dyn Entropy) -> Result<Self, KeyError> {
        if let Some(keys) = Self::load(path, required)? {
            return Ok(keys);
        }
        let mut seed = [0_u8; 32];
        entropy.fill(&mut seed)?;
        match write_new(path, &seed) {
            Ok(()) => Ok(Self {
                made: true,
                ..Self::new(&seed)?
            }),
            // Another process was quicker: its key is the key.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::load(path, true)?
                .ok_or(error)
                .map_err(|source| KeyError::of(path, source)),
            Err(source) => Err(KeyError::of(path, source)),
        }
    }

    /// Looks at the file without making it.
    ///
    /// # Errors
    /// As [`KeySet::load_or_create`] would, but for those of making it.
    pub fn check(path: &Path, required: bool) -> Result<(), KeyError> {
        Self::load(path, required).map(drop)
    }

    /// The key of the file; `None` when there is none and none is required.
    fn load(path: &Path, required: bool) -> Result<Option<Self>, KeyError> {
        let shown = || path.display().to_string();
        match fs::read_to_string(path) {
            Ok(pem) => {
                let key = SigningKey::from_pkcs8_pem(pem.trim()).map_err(|_| KeyError::Format { path: shown() })?;
                Self::new(key.as_bytes()).map(Some)
            }
            Err(source) if source.kind() == io::ErrorKind::NotFound && required => {
                Err(KeyError::Missing { path: shown() })
            }
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) if source.kind() == io::ErrorKind::InvalidData => Err(KeyError::Format { path: shown() }),
            Err(source) => Err(KeyError::of(path, source)),
        }
    }

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
            // Kept: jsonwebtoken would derive the public key anew for each signature, which nearly doubles its cost.
            signing: Ed25519KeyPair::from_seed_and_public_key(seed, &public).map_err(|_| KeyError::Refused)?,
            verifying: DecodingKey::from_ed_der(&public),
            nonce_key: derive(seed, b"agentwrit nonce v1"),
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

fn derive(seed: &[u8; 32], label: &[u8]) -> [u8; 32] {
    let mut key = [0_u8; 32];
    if let Ok(mac) = Hmac::<Sha256>::new_from_slice(seed) {
        key.copy_from_slice(&mac.chain_update(label).finalize().into_bytes());
    }
    key
}

fn pkcs8_v1(seed: &[u8; 32]) -> Vec<u8> {
    let mut der = PKCS8_V1_PREFIX.to_vec();
    der.extend_from_slice(seed);
    der
}

/// Writes a new key file, durably, readable by its owner only. It appears under its name when it is complete: after a
/// crash there is the whole key or none. A file that is there is never replaced.
fn write_new(path: &Path, seed: &[u8; 32]) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(pkcs8_v1(seed))
    );
    let mut prefix = name.to_owned();
    prefix.push(".new-");
    let mut unfinished = tempfile::Builder::new().prefix(&prefix).make_in(folder, |path| {
        File::options().write(true).create_new(true).mode(0o600).open(path)
    })?;
    let file = unfinished.as_file_mut();
    file.write_all(pem.as_bytes())?;
    file.sync_all()?;
    unfinished.persist_noclobber(&path).map_err(|failure| failure.error)?;
    // A crash may undo the new name until its folder is synced too (fsync(2)).
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use agentwrit_protocol::clock::SequenceEntropy;
    use ed25519_dalek::pkcs8::EncodePrivateKey;
    use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;

    #[test]
    fn a_made_key_is_read_back_and_versions_1_and_2_are_the_same_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/signing.key");
        let made = KeySet::load_or_create(&path, false, &SequenceEntropy::default()).unwrap();
        let read = KeySet::load_or_create(&path, true, &SequenceEntropy::default()).unwrap();
        assert_eq!(made.kid(), read.kid());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let key = SigningKey::from_pkcs8_pem(fs::read_to_string(&path).unwrap().trim()).unwrap();
        fs::write(&path, key.to_pkcs8_pem(LineEnding::LF).unwrap().as_bytes()).unwrap();
        assert_eq!(
            KeySet::load_or_create(&path, true, &SequenceEntropy::default())
                .unwrap()
                .kid(),
            made.kid()
        );
    }

    #[test]
    fn a_key_file_is_whole_or_absent_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing.key");
        let made = KeySet::load_or_create(&path, false, &SequenceEntropy::default()).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
        let before = fs::read(&path).unwrap();
        let refused = write_new(&path, &[7; 32]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        KeySet::check(&path, true).unwrap();
        assert_eq!(
            KeySet::load_or_create(&path, false, &SequenceEntropy::default())
                .unwrap()
                .kid(),
            made.kid()
        );
        let other = folder.path().join("other.key");
        KeySet::check(&other, false).unwrap();
        assert!(
            KeySet::check(&other, true).is_err() && !other.exists(),
            "looking makes nothing"
        );
    }

    #[test]
    fn a_missing_required_key_and_foreign_content_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing.key");
        assert!(matches!(
            KeySet::load_or_create(&path, true, &SequenceEntropy::default()),
            Err(KeyError::Missing { .. })
        ));
        for content in [
            "",
            "garbage",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            fs::write(&path, content).unwrap();
            let error = KeySet::load_or_create(&path, false, &SequenceEntropy::default()).unwrap_err();
            assert!(error.to_string().starts_with("signing key: "), "{error}");
        }
    }

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
}
