//! The API server of the tests.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use agentwrit_broker::attest::{Attestor, AttestorError, PodFacts, Review};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

pub const AUDIENCE: &str = "agentwrit://agentwrit-system/agentwrit";
pub const CONTROLLER: &str = "system:serviceaccount:agentwrit-system:agentwrit-controller";

/// A token that says what the API server will answer about it.
pub fn token(claims: &Value) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// Believes every token that doesn't ask not to be believed, and knows the pods that the test put there.
#[derive(Default)]
pub struct FakeCluster {
    pods: Mutex<HashMap<(String, String), PodFacts>>,
    away: AtomicBool,
}

impl FakeCluster {
    pub fn put_pod(&self, namespace: &str, name: &str, facts: PodFacts) {
        self.pods.lock().unwrap().insert((namespace.into(), name.into()), facts);
    }

    pub fn change_pod(&self, namespace: &str, name: &str, change: impl FnOnce(&mut PodFacts)) {
        change(
            self.pods
                .lock()
                .unwrap()
                .get_mut(&(namespace.into(), name.into()))
                .unwrap(),
        );
    }

    pub fn remove_pod(&self, namespace: &str, name: &str) {
        self.pods
            .lock()
            .unwrap()
            .remove(&(namespace.to_owned(), name.to_owned()));
    }

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

#[async_trait]
impl Attestor for FakeCluster {
    async fn review(&self, token: &SecretString, audience: &str) -> Result<Review, AttestorError> {
        self.answers()?;
        let payload = URL_SAFE_NO_PAD
            .decode(token.expose_secret().split('.').nth(1).unwrap())
            .unwrap();
        let claims: Value = serde_json::from_slice(&payload).unwrap();
        let text = |key: &str| claims[key].as_str().map(str::to_owned);
        if claims["forged"] == json!(true) {
            return Ok(Review::default());
        }
        Ok(Review {
            authenticated: true,
            audiences: vec![text("confirmed").unwrap_or_else(|| audience.to_owned())],
            username: text("sub").unwrap(),
            pod_name: text("pod"),
            pod_uid: text("uid"),
            node: Some("node-1".into()),
        })
    }

    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<PodFacts>, AttestorError> {
        self.answers()?;
        Ok(self
            .pods
            .lock()
            .unwrap()
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned())
    }
}
