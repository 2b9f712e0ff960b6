//! The system's randomness fails: a request that needs some gets an internal error, and nobody was denied anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agentwrit_protocol::system::SystemEntropy;
use agentwrit_protocol::{Entropy, EntropyError};
use agentwrit_testkit::{ADMIN_SECRET, Harness, Setup};
use serde_json::{Value, json};

/// The system's randomness, until it fails.
#[derive(Default)]
struct Failing(AtomicBool);

impl Entropy for Failing {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        if self.0.load(Ordering::SeqCst) {
            return Err(EntropyError("no entropy source".to_owned()));
        }
        SystemEntropy.fill(buffer)
    }
}

#[tokio::test]
async fn missing_randomness_is_an_internal_error_and_no_denial() {
    let entropy = Arc::new(Failing::default());
    let mut setup = Setup::new(&[]);
    setup.entropy = Arc::<Failing>::clone(&entropy);
    let harness = Harness::start(setup).await;
    let admin = harness.admin().await;
    let app = harness.app("shop", json!({})).await;
    let app_token = harness.app_token(&app).await;
    let (_, agent) = harness.agent(json!({})).await;
    let (delegate, _) = harness.agent(json!({})).await;
    let launch_token = harness.launch(json!({})).await;
    let registration = harness.registration(&launch_token, json!({})).await;
    let before = harness.events("").await;

    entropy.0.store(true, Ordering::SeqCst);
    let launch = json!({"agent_name": "a", "allowed_scope": ["read:data:x"]});
    for (method, path, bearer, body) in [
        ("GET", "/v1/challenge", "", Value::Null),
        ("POST", "/v1/admin/auth", "", json!({"secret": ADMIN_SECRET})),
        (
            "POST",
            "/v1/app/auth",
            "",
            json!({"client_id": app.client_id, "client_secret": app.secret}),
        ),
        (
            "POST",
            "/v1/admin/apps",
            &admin,
            json!({"name": "other", "scopes": ["read:data:*"]}),
        ),
        ("POST", "/v1/admin/launch-tokens", &admin, launch.clone()),
        ("POST", "/v1/app/launch-tokens", &app_token, launch),
        ("POST", "/v1/register", "", registration),
        ("POST", "/v1/token/renew", &agent, Value::Null),
        (
            "POST",
            "/v1/delegate",
            &agent,
            json!({"delegate_to": delegate, "scope": ["read:data:x"]}),
        ),
    ] {
        let answer = harness.call(method, path, bearer, &body).await;
        let (status, code, _) = answer.problem();
        assert_eq!((status, code.as_str()), (500, "internal_error"), "{path}: {answer:?}");
    }
    entropy.0.store(false, Ordering::SeqCst);
    assert_eq!(harness.events("").await, before);
}
