//! The Kubernetes of the tests.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use agentwrit_attest::{Attestor, AttestorError, PodFacts, PodLabels, Review, SidecarPolicy};
use async_trait::async_trait;
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};

use crate::pod::{Pod, claims_of};

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
            labels: PodLabels::default(),
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
fn review(token: &str, audience: &str) -> Review {
    let claims = claims_of(token);
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
