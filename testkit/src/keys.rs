//! What an agent does with its key.

use agentwrit_protocol::Sensitive;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};

/// An agent's key pair.
pub struct Keys(SigningKey);

impl Default for Keys {
    fn default() -> Self {
        Self::new(42)
    }
}

impl Keys {
    pub fn new(seed: u8) -> Self {
        Self(SigningKey::from_bytes(&[seed; 32]))
    }

    /// A key pair of its own for each number.
    pub fn numbered(number: u64) -> Self {
        let mut seed = [7_u8; 32];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        Self(SigningKey::from_bytes(&seed))
    }

    /// The public key as it is sent, base64.
    pub fn public(&self) -> String {
        STANDARD.encode(self.0.verifying_key().as_bytes())
    }

    /// The signature over a nonce, base64; over nothing when the nonce is not hexadecimal.
    pub fn sign(&self, nonce: &str) -> String {
        let nonce = hex::decode(nonce).unwrap_or_default();
        STANDARD.encode(self.0.sign(&nonce).to_bytes())
    }

    /// The header `Agentwrit-Proof` for a token at a time, Unix seconds.
    pub fn prove(&self, trust_domain: &str, jti: &str, time: i64) -> String {
        let text = format!("agentwrit-renewal-v1\n{trust_domain}\n{jti}\n{time}");
        let signature = URL_SAFE_NO_PAD.encode(self.0.sign(text.as_bytes()).to_bytes());
        format!("v1;t={time};sig={signature}")
    }

    /// A complete body for `/v1/register`, with changes.
    pub fn registration(&self, launch_token: &str, nonce: &str, changes: &Value) -> Value {
        let mut body = json!({
            "launch_token": launch_token,
            "nonce": nonce,
            "public_key": self.public(),
            "signature": self.sign(nonce),
            "orch_id": "orch-1",
            "task_id": "task-1",
            "requested_scope": ["read:data:x"],
        });
        crate::merge(&mut body, changes);
        body
    }
}

/// A complete body for `/v1/register` by the key that most tests use, with changes.
pub fn registration(launch_token: &str, nonce: &str, changes: Value) -> Value {
    Keys::default().registration(launch_token, nonce, &changes)
}

/// A pod's token that nobody signed: good from `iat`, Unix seconds, for `life` seconds.
pub fn unsigned_token(iat: i64, life: i64, jti: &str) -> Sensitive {
    let claims = json!({
        "iss": "", "sub": "spiffe://d/agent/k8s.shop.orders/pod-1/0001", "exp": iat + life, "nbf": iat, "iat": iat,
        "jti": jti, "scope": ["read:orders:*"], "task_id": "pod-1",
    });
    Sensitive::from(format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims.to_string())))
}

/// The claims of a token, unverified.
pub fn claims(token: &str) -> Value {
    decoded(token).unwrap()
}

/// The same; `None` when it is no token.
pub(crate) fn decoded(token: &str) -> Option<Value> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}
