//! From the pod's identity to an agent's token: launch, challenge, register.

use agentwrit_client::{BrokerClient, Class};
use agentwrit_protocol::k8s::PodLaunchRequest;
use agentwrit_protocol::wire::RegisterRequest;
use agentwrit_protocol::{Entropy, EntropyError, Sensitive};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use secrecy::zeroize::Zeroize;

use crate::agent::{Failure, OVERLAP_SECONDS, Stage};
use crate::config::Config;
use crate::token::Issued;

/// This process's key; it never leaves the memory.
pub struct AgentKey(SigningKey);

impl AgentKey {
    /// A new key.
    ///
    /// # Errors
    /// When the generator fails.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        let mut seed = [0_u8; 32];
        entropy.fill(&mut seed)?;
        let key = SigningKey::from_bytes(&seed);
        seed.zeroize();
        Ok(Self(key))
    }

    fn public(&self) -> String {
        STANDARD.encode(self.0.verifying_key().as_bytes())
    }

    /// Signature over the decoded nonce; `None` when the nonce isn't hex.
    fn sign(&self, nonce: &str) -> Option<String> {
        let bytes = hex::decode(nonce).ok()?;
        Some(STANDARD.encode(self.0.sign(&bytes).to_bytes()))
    }
}

fn malformed(stage: Stage, text: &str) -> Failure {
    Failure {
        stage,
        class: Class::Retry(None),
        text: text.to_owned(),
    }
}

/// Gets a token for this pod.
///
/// # Errors
/// Names the step that failed.
pub async fn enrol(client: &BrokerClient, config: &Config, key: &AgentKey) -> Result<Issued, Failure> {
    let at = |stage| move |error| Failure::new(stage, &error);
    let launch = PodLaunchRequest {
        policy: Some(config.launch_token.clone()),
        public_key: Some(key.public()),
        scopes: (!config.scopes.is_empty()).then(|| config.scopes.clone()),
        ttl_seconds: config.ttl_seconds,
    };
    let launched = client.pod_launch(&launch).await.map_err(at(Stage::Launch))?;
    let challenge = client.challenge().await.map_err(at(Stage::Challenge))?;
    let signature = key
        .sign(&challenge.nonce)
        .ok_or_else(|| malformed(Stage::Challenge, "the broker's nonce is not hexadecimal"))?;
    let request = RegisterRequest {
        launch_token: Some(launched.launch_token),
        nonce: Some(challenge.nonce),
        public_key: Some(key.public()),
        signature: Some(signature),
        orch_id: Some(launched.orch_id),
        task_id: Some(launched.task_id),
        requested_scope: Some(if config.scopes.is_empty() {
            launched.policy.allowed_scope
        } else {
            config.scopes.clone()
        }),
        requested_ttl: config.ttl_seconds,
    };
    let registered = client.register(&request).await.map_err(at(Stage::Register))?;
    read(Stage::Register, registered.access_token, registered.expires_in)
}

/// Renews a token.
///
/// # Errors
/// See [`Failure`].
pub async fn renew(client: &BrokerClient, token: &Sensitive, key: Option<&str>) -> Result<Issued, Failure> {
    let renewed = client
        .renew(token, Some(OVERLAP_SECONDS), key)
        .await
        .map_err(|error| Failure::new(Stage::Renew, &error))?;
    read(Stage::Renew, renewed.access_token, renewed.expires_in)
}

fn read(stage: Stage, token: Sensitive, expires_in: i64) -> Result<Issued, Failure> {
    Issued::answered(token, expires_in)
        .ok_or_else(|| malformed(stage, "the broker's answer holds no token that stands"))
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
        let signature = STANDARD.decode(key.sign(&nonce).unwrap()).unwrap();
        VerifyingKey::from_bytes(&public)
            .unwrap()
            .verify_strict(
                &hex::decode(&nonce).unwrap(),
                &Signature::from_slice(&signature).unwrap(),
            )
            .unwrap();
        assert_eq!(key.sign("xyz"), None);
    }
}
