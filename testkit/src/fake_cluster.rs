//! The Kubernetes of the tests.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use agentwrit_attest::{Attestor, AttestorError, PodFacts, Review, SidecarPolicy};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

pub const AUDIENCE: &str = "agentwrit://agentwrit-system/agentwrit";
pub const CONTROLLER: &str = "system:serviceaccount:agentwrit-system:agentwrit-controller";

/// A `ServiceAccount` token that says what its review will answer. Its claims are `sub`, and of a pod `pod` and `uid`;
/// `confirmed` is another audience than the one that is asked for, `forged` makes the review say no.
pub fn service_account_token(changes: &Value) -> String {
    let mut claims = json!({"aud": [AUDIENCE], "exp": 9_000_000_000_i64});
    crate::merge(&mut claims, changes);
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// The controller's `ServiceAccount` token.
pub fn controller() -> String {
    service_account_token(&json!({"sub": CONTROLLER}))
}

/// A pod of the tests.
#[derive(Debug, Clone)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub service_account: String,
    /// The LaunchToken that its sidecar asks for.
    pub policy: String,
}

impl Pod {
    /// Pod `pod-UID` of ServiceAccount `reader`, for which LaunchToken `reader` is meant.
    pub fn new(namespace: &str, uid: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: format!("pod-{uid}"),
            uid: uid.into(),
            service_account: "reader".into(),
            policy: "reader".into(),
        }
    }

    /// Its ServiceAccount token.
    pub fn bearer(&self) -> String {
        self.bearer_with(&json!({}))
    }

    /// The same with other claims.
    pub fn bearer_with(&self, changes: &Value) -> String {
        let mut claims = json!({
            "sub": format!("system:serviceaccount:{}:{}", self.namespace, self.service_account),
            "pod": self.name, "uid": self.uid,
        });
        crate::merge(&mut claims, changes);
        service_account_token(&claims)
    }
}

/// Believes every token that doesn't ask not to be believed, and knows the pods that the test put there.
#[derive(Default)]
pub struct FakeCluster {
    pods: Mutex<HashMap<(String, String), PodFacts>>,
    away: AtomicBool,
}

impl FakeCluster {
    /// Has this pod running.
    pub fn run_pod(&self, pod: &Pod) {
        let facts = PodFacts {
            uid: pod.uid.as_str().into(),
            terminating: false,
            phase: "Running".into(),
            service_account: pod.service_account.clone(),
            node: Some("node-1".into()),
            sidecar: SidecarPolicy::Named(pod.policy.clone()),
        };
        self.put_pod(&pod.namespace, &pod.name, facts);
    }

    pub fn put_pod(&self, namespace: &str, name: &str, facts: PodFacts) {
        self.pods.lock().insert((namespace.into(), name.into()), facts);
    }

    pub fn change_pod(&self, namespace: &str, name: &str, change: impl FnOnce(&mut PodFacts)) {
        let mut pods = self.pods.lock();
        change(pods.get_mut(&(namespace.into(), name.into())).unwrap());
    }

    pub fn remove_pod(&self, namespace: &str, name: &str) {
        let mut pods = self.pods.lock();
        pods.remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// Nothing is answered any more.
    pub fn go_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    fn answers(&self) -> Result<(), AttestorError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(AttestorError::Unreachable("connection refused".into()));
        }
        Ok(())
    }
}

/// What the review of a token says; no when it is no token of these.
pub(crate) fn review(token: &str, audience: &str) -> Review {
    let payload = token.split('.').nth(1).unwrap_or_default();
    let payload = URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
    let claims: Value = serde_json::from_slice(&payload).unwrap_or_default();
    let text = |key: &str| claims[key].as_str().map(str::to_owned);
    let Some(username) = text("sub").filter(|_| claims["forged"] != true) else {
        return Review::default();
    };
    Review {
        authenticated: true,
        audiences: vec![text("confirmed").unwrap_or_else(|| audience.to_owned())],
        username,
        pod_name: text("pod"),
        pod_uid: text("uid"),
        node: Some("node-1".into()),
    }
}

#[async_trait]
impl Attestor for FakeCluster {
    async fn review(&self, token: &SecretString, audience: &str) -> Result<Review, AttestorError> {
        self.answers()?;
        Ok(review(token.expose_secret(), audience))
    }

    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<PodFacts>, AttestorError> {
        self.answers()?;
        let pods = self.pods.lock();
        Ok(pods.get(&(namespace.to_owned(), name.to_owned())).cloned())
    }
}
