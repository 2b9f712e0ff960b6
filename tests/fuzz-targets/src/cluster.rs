//! A Kubernetes that believes every token, and knows two pods.

use agentwrit_broker::attest::{Attestor, AttestorError, PodFacts, Review, SidecarPolicy};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

/// The audience of this installation.
pub(crate) const AUDIENCE: &str = "agentwrit://fuzz/agentwrit";
/// The controller's username.
pub(crate) const CONTROLLER: &str = "system:serviceaccount:fuzz:controller";

/// The ServiceAccount token of a caller; a pod's is bound to the pod.
pub(crate) fn token(subject: &str, pod: Option<&str>) -> String {
    let claims = json!({"aud": [AUDIENCE], "exp": 9_000_000_000_i64, "sub": subject, "pod": pod});
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// The UID of a pod of this name.
pub(crate) fn uid(pod: &str) -> String {
    format!("uid-of-{pod}")
}

/// The API server.
pub(crate) struct Cluster;

#[async_trait]
impl Attestor for Cluster {
    async fn review(&self, token: &SecretString, audience: &str) -> Result<Review, AttestorError> {
        let payload = token.expose_secret().split('.').nth(1).unwrap_or_default();
        let payload = URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
        let claims: Value = serde_json::from_slice(&payload).unwrap_or_default();
        let text = |name: &str| claims[name].as_str().map(str::to_owned);
        Ok(Review {
            authenticated: claims["sub"].is_string(),
            audiences: vec![audience.to_owned()],
            username: text("sub").unwrap_or_default(),
            pod_uid: text("pod").map(|pod| uid(&pod)),
            pod_name: text("pod"),
            node: Some("node-1".to_owned()),
        })
    }

    async fn pod(&self, _namespace: &str, name: &str) -> Result<Option<PodFacts>, AttestorError> {
        let known = ["reader-1", "reader-2"].contains(&name);
        Ok(known.then(|| PodFacts {
            uid: uid(name),
            terminating: false,
            phase: "Running".to_owned(),
            service_account: "reader".to_owned(),
            node: Some("node-1".to_owned()),
            sidecar: SidecarPolicy::Named("reader".to_owned()),
        }))
    }
}
