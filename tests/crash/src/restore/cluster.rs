//! What stands around the broker: a Kubernetes that knows the pods, and a controller that writes policies.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use agentwrit_protocol::k8s::{MarkRequest, MarkResponse};
use agentwrit_testkit::load::failure::{Failure, Result};
use agentwrit_testkit::load::http::{Connection, request};
use agentwrit_testkit::{AUDIENCE, ApiServer, CONTROLLER, Pod, controller};
use serde_json::{Value, json};
use tokio::sync::watch;

/// Between two looks of the controller at the store's mark.
const LOOK: Duration = Duration::from_secs(10);
const NAMESPACE: &str = "shop";
const APP: &str = "/v1/k8s/policies/apps/shop/orders";
const LAUNCH_TOKEN: &str = "/v1/k8s/policies/launch-tokens/shop/reader";

/// The pod of this number.
pub(super) fn pod(number: usize) -> Pod {
    Pod::new(NAMESPACE, &format!("4f2c{number:04x}-0000-4000-8000-{number:012x}"))
}

/// Starts the Kubernetes; the settings that lead the broker there, with the rates of the chart.
pub(super) fn start(pods: usize, folder: &Path) -> Result<Vec<(&'static str, String)>> {
    std::fs::create_dir_all(folder).map_err(Failure::system("make the broker's folder"))?;
    let kubeconfig = folder.join("kubeconfig");
    ApiServer::start((0..pods).map(pod)).write_kubeconfig(&kubeconfig);
    let kubeconfig = std::path::absolute(&kubeconfig).map_err(Failure::system("find the kubeconfig"))?;
    Ok(vec![
        ("KUBECONFIG", kubeconfig.display().to_string()),
        ("AA_ATTEST_AUDIENCE", AUDIENCE.to_owned()),
        ("AA_CONTROLLER_SUBJECT", CONTROLLER.to_owned()),
        ("AA_STORE_REQUIRED", "true".to_owned()),
        ("AA_CHALLENGE_RATE", "1000".to_owned()),
        ("AA_REGISTER_RATE", "1000".to_owned()),
        ("AA_DENIAL_AUDIT_RATE", "10".to_owned()),
    ])
}

/// The controller: it writes what the objects say, and again when another epoch shows that the store forgot it.
pub(super) struct Controller {
    broker: watch::Receiver<SocketAddr>,
    /// The generation of the objects.
    pub(super) generation: AtomicI64,
    sequence: AtomicI64,
    /// How often another epoch had it write everything again.
    pub(super) pushed_again: AtomicU64,
}

impl Controller {
    pub(super) fn new(broker: watch::Receiver<SocketAddr>) -> Arc<Self> {
        Arc::new(Self {
            broker,
            generation: AtomicI64::new(1),
            sequence: AtomicI64::new(1),
            pushed_again: AtomicU64::new(0),
        })
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Result<Value> {
        let address = *self.broker.borrow();
        let mut connection = Connection::open(address).await?;
        let answer = connection.send(&request(method, path, &controller(), body)).await?;
        if answer.status == 201 {
            return answer.expect("policy", 201);
        }
        answer.expect("policy", 200)
    }

    /// Writes both objects as they are now.
    pub(super) async fn push(&self) -> Result<()> {
        let generation = self.generation.load(Ordering::SeqCst);
        let scopes = ["read:orders:*", "read:stock:*"];
        let order = || json!({"lease_epoch": 1, "sequence": self.sequence.fetch_add(1, Ordering::SeqCst)});
        let app = json!({
            "uid": "app-uid", "generation": generation, "order": order(), "state": "ready",
            "spec": {"scopes": scopes, "max_agent_ttl_seconds": 3600},
        });
        self.ask("PUT", APP, &app.to_string()).await?;
        let launch_token = json!({
            "uid": "ltok-uid", "generation": generation, "order": order(), "state": "ready",
            "spec": {
                "app": "orders", "agent_name": "reader", "allowed_scopes": scopes, "max_ttl_seconds": 3600,
                "service_account_names": ["reader"],
            },
        });
        self.ask("PUT", LAUNCH_TOKEN, &launch_token.to_string()).await?;
        Ok(())
    }

    /// Whether the broker has this generation of both.
    pub(super) async fn has_arrived(&self, generation: i64) -> Result<bool> {
        let list = self.ask("GET", "/v1/k8s/policies", "").await?;
        let policies = list
            .get("policies")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let has = |policy: &Value| policy.get("generation").and_then(Value::as_i64) == Some(generation);
        Ok(policies.len() == 2 && policies.iter().all(has))
    }

    /// Shows the broker the mark that it keeps, at each look, and pushes again after another epoch.
    pub(super) async fn work(self: Arc<Self>, pace: u32) {
        let mut kept: Option<MarkResponse> = None;
        loop {
            if let Ok(found) = self.look(kept.as_ref()).await {
                let is_another = kept.as_ref().is_some_and(|kept| kept.mark.epoch != found.mark.epoch);
                if !is_another || self.push().await.is_ok() {
                    if is_another {
                        self.pushed_again.fetch_add(1, Ordering::SeqCst);
                    }
                    kept = Some(found);
                }
            }
            tokio::time::sleep(LOOK / pace).await;
        }
    }

    async fn look(&self, kept: Option<&MarkResponse>) -> Result<MarkResponse> {
        let mark = kept.map(|kept| kept.mark.text()).unwrap_or_default();
        let body = serde_json::to_string(&MarkRequest { mark, list: false });
        let body = body.map_err(|error| Failure::Broker(format!("mark: {error}")))?;
        let found = self.ask("POST", "/v1/k8s/mark", &body).await?;
        serde_json::from_value(found).map_err(|error| Failure::Broker(format!("mark: {error}")))
    }
}
