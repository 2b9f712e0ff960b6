//! The broker's public keys (RFC 7517, RFC 8037).

use agentwrit_protocol::audit::{CheckpointKeys, SignatureCheck};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// `GET /.well-known/jwks.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwks {
    /// Every published key.
    pub keys: Vec<Jwk>,
}

/// One public key; members of other key types are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    /// `OKP` for Ed25519.
    pub kty: String,
    /// `Ed25519`.
    #[serde(default)]
    pub crv: String,
    /// The public key, base64url without padding.
    #[serde(default)]
    pub x: String,
    /// RFC 7638 thumbprint.
    #[serde(default)]
    pub kid: String,
    /// `EdDSA`.
    #[serde(default)]
    pub alg: String,
}

impl Jwk {
    /// An Ed25519 key of the broker.
    pub fn ed25519(kid: &str, x: &str) -> Self {
        Self {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            x: x.to_owned(),
            kid: kid.to_owned(),
            alg: "EdDSA".to_owned(),
        }
    }
}

impl CheckpointKeys for Jwks {
    fn check(&self, kid: &str, message: &str, signature: &str) -> SignatureCheck {
        let is_ours = |key: &&Jwk| key.kid == kid && key.kty == "OKP" && key.crv == "Ed25519";
        let Some(key) = self.keys.iter().find(is_ours) else {
            return SignatureCheck::UnknownKey;
        };
        let (Ok(public), Ok(signature)) = (URL_SAFE_NO_PAD.decode(&key.x), URL_SAFE_NO_PAD.decode(signature)) else {
            return SignatureCheck::Invalid;
        };
        match UnparsedPublicKey::new(&ED25519, public).verify(message.as_bytes(), &signature) {
            Ok(()) => SignatureCheck::Valid,
            Err(_) => SignatureCheck::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    #[test]
    fn signatures_are_checked_by_the_key_that_they_name() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let key = |kid: &str, x: String| Jwk {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            x,
            kid: kid.into(),
            alg: "EdDSA".into(),
        };
        let public = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let keys = Jwks {
            keys: vec![key("short", "AA".into()), key("mine", public)],
        };
        let good = URL_SAFE_NO_PAD.encode(pair.sign(b"message").as_ref());
        let table = [
            ("mine", "message", good.as_str(), SignatureCheck::Valid),
            ("mine", "another", &good, SignatureCheck::Invalid),
            ("mine", "message", "!", SignatureCheck::Invalid),
            ("short", "message", &good, SignatureCheck::Invalid),
            ("other", "message", &good, SignatureCheck::UnknownKey),
        ];
        for (kid, message, signature, wanted) in table {
            assert_eq!(keys.check(kid, message, signature), wanted, "{kid} {message}");
        }
    }
}
