//! Pods of the tests, and the tokens that they and the controller show.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
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

/// What such a token says; null when it is none.
pub(crate) fn claims_of(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap_or_default();
    let payload = URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
    serde_json::from_slice(&payload).unwrap_or_default()
}
