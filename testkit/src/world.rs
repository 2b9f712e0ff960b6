//! A broker in a cluster: policies, and pods that launch and register.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use agentwrit_broker::process::housekeeping;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::broker::Broker;
use crate::fake_cluster::FakeCluster;
use crate::keys::Keys;
use crate::pod::{Pod, controller};
use crate::setup::Setup;

/// What a launch answered.
#[derive(Debug, Clone)]
pub struct Launched {
    pub launch_token: String,
    pub orch_id: String,
    pub task_id: String,
    pub scopes: Vec<String>,
}

/// A broker and the cluster around it.
pub struct World {
    broker: Broker,
    pub cluster: Arc<FakeCluster>,
    sequence: AtomicI64,
}

impl Deref for World {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}

fn write_ceilings(folder: &std::path::Path, ceilings: &Value) {
    std::fs::write(folder.join("ceilings.json"), ceilings.to_string()).unwrap();
}

impl World {
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With these settings beside those that every test has.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let cluster = Arc::<FakeCluster>::default();
        let setup = Setup::new(settings).with_cluster(Arc::clone(&cluster));
        Self::start(setup, AtomicI64::new(1)).await
    }

    /// Two replicas on one PostgreSQL, whichever store the run has, in one cluster. Their clock is the database's, and what is
    /// spent of a rate comes back as slowly.
    pub async fn replicas() -> (Self, Self) {
        Self::replicas_of(Setup::new(&[]), |_| ()).await
    }

    /// The same amid a change of their ceilings: the first has those of before, the second those of after.
    pub async fn replicas_amid(before: &Value, after: &Value) -> (Self, Self) {
        let setup = Setup::new(&[("AA_SCOPE_CEILINGS_PATH", "{folder}/ceilings.json")]);
        write_ceilings(setup.folder.path(), before);
        Self::replicas_of(setup, |folder| write_ceilings(folder, after)).await
    }

    async fn replicas_of(setup: Setup, between: impl FnOnce(&std::path::Path)) -> (Self, Self) {
        let mut setup = setup.with_cluster(Arc::default());
        setup.set(&[("AA_CHALLENGE_RATE", "0"), ("AA_REGISTER_RATE", "0")]);
        let setup = setup.on_shared_store();
        let one = Self::start(setup.replica("one"), AtomicI64::new(1)).await;
        between(setup.folder.path());
        (one, Self::start(setup.replica("two"), AtomicI64::new(1)).await)
    }

    /// With these ceilings of namespaces, as [`World::under_ceilings`] takes them.
    pub async fn with_ceilings(ceilings: &Value) -> Self {
        let setup = Setup::new(&[("AA_SCOPE_CEILINGS_PATH", "{folder}/ceilings.json")]).with_cluster(Arc::default());
        write_ceilings(setup.folder.path(), ceilings);
        Self::start(setup, AtomicI64::new(1)).await
    }

    /// The same after a restart with other ceilings: a whole file.
    pub async fn under_ceilings(self, ceilings: &Value) -> Self {
        self.restarted_after(|folder| write_ceilings(folder, ceilings)).await
    }

    /// A broker that nobody configured attestation for.
    pub async fn without_attestation() -> Self {
        let unset = "{unset}";
        let mut setup = Setup::new(&[]).with_cluster(Arc::default());
        setup.set(&[("AA_ATTEST_AUDIENCE", unset), ("AA_CONTROLLER_SUBJECT", unset)]);
        Self::start(setup, AtomicI64::new(1)).await
    }

    async fn start(setup: Setup, sequence: AtomicI64) -> Self {
        Self {
            cluster: setup.cluster.clone().unwrap(),
            broker: setup.start().await.unwrap(),
            sequence,
        }
    }

    /// The same after a restart of the broker.
    pub async fn restarted(self) -> Self {
        self.restarted_after(|_| ()).await
    }

    /// The same after a restart, and what was done to its volume meanwhile.
    pub async fn restarted_after(self, meanwhile: impl FnOnce(&std::path::Path)) -> Self {
        let setup = self.broker.stop().await;
        meanwhile(setup.folder.path());
        Self::start(setup, self.sequence).await
    }

    /// What the broker does each minute to events of long ago, here to all.
    pub async fn shorten(&self) {
        housekeeping::shorten(&self.state, 0).await;
    }

    /// What the broker does each minute.
    pub async fn tidy(&self) {
        housekeeping::prune(&self.state).await;
    }

    /// One request as the controller.
    pub async fn as_controller(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.call(method, path, &controller(), body).await
    }

    /// The next order under epoch 1.
    pub fn order(&self) -> Value {
        json!({"lease_epoch": 1, "sequence": self.sequence.fetch_add(1, Ordering::SeqCst)})
    }

    /// An AgentApp for [`World::put_app`].
    pub fn app(&self, generation: i64, state: &str, scopes: &[&str]) -> Value {
        json!({
            "uid": "app-uid", "generation": generation, "order": self.order(), "state": state,
            "spec": {"scopes": scopes, "max_agent_ttl_seconds": 3600},
        })
    }

    /// A LaunchToken for [`World::put_launch_token`].
    pub fn launch_token(&self, generation: i64, state: &str, scopes: &[&str]) -> Value {
        json!({
            "uid": "ltok-uid", "generation": generation, "order": self.order(), "state": state,
            "spec": {
                "app": "orders", "agent_name": "reader", "allowed_scopes": scopes, "max_ttl_seconds": 300,
                "service_account_names": ["reader"],
            },
        })
    }

    pub async fn put_app(&self, put: &Value) -> Answer {
        self.as_controller("PUT", "/v1/k8s/policies/apps/shop/orders", put)
            .await
    }

    pub async fn put_launch_token(&self, put: &Value) -> Answer {
        self.as_controller("PUT", "/v1/k8s/policies/launch-tokens/shop/reader", put)
            .await
    }

    /// App `orders` (read and write orders) and LaunchToken `reader` (read orders) in namespace `shop`.
    pub async fn with_policies(self) -> Self {
        let app = self.app(1, "ready", &["read:orders:*", "write:orders:*"]);
        self.put_app(&app).await.ok();
        let launch_token = self.launch_token(1, "ready", &["read:orders:*"]);
        self.put_launch_token(&launch_token).await.ok();
        self
    }

    /// A running pod in namespace `shop` that asks for LaunchToken `reader`.
    pub fn pod(&self, uid: &str) -> Pod {
        self.pod_in("shop", uid)
    }

    /// The same in another namespace.
    pub fn pod_in(&self, namespace: &str, uid: &str) -> Pod {
        let pod = Pod::new(namespace, uid);
        self.cluster.run_pod(&pod);
        pod
    }

    pub async fn launch(&self, pod: &Pod, keys: &Keys) -> Answer {
        let body = json!({"policy": pod.policy, "public_key": keys.public()});
        self.call("POST", "/v1/k8s/launch-tokens", &pod.bearer(), &body).await
    }

    /// The same with the member `renewal_proof`.
    pub async fn launch_saying(&self, pod: &Pod, keys: &Keys, renewal_proof: &Value) -> Answer {
        let body = json!({"policy": pod.policy, "public_key": keys.public(), "renewal_proof": renewal_proof});
        self.call("POST", "/v1/k8s/launch-tokens", &pod.bearer(), &body).await
    }

    #[track_caller]
    pub fn launched(answer: Answer) -> Launched {
        let body = answer.ok();
        Launched {
            launch_token: body["launch_token"].as_str().unwrap().into(),
            orch_id: body["orch_id"].as_str().unwrap().into(),
            task_id: body["task_id"].as_str().unwrap().into(),
            scopes: serde_json::from_value(body["policy"]["allowed_scope"].clone()).unwrap(),
        }
    }

    /// A registration with what a launch answered; `changes` replaces members of the request.
    pub async fn register_with(&self, launched: &Launched, keys: &Keys, changes: &Value) -> Answer {
        let mut members = json!({
            "orch_id": launched.orch_id, "task_id": launched.task_id, "requested_scope": launched.scopes,
        });
        crate::merge(&mut members, changes);
        let nonce = self.nonce().await;
        let body = keys.registration(&launched.launch_token, &nonce, &members);
        self.call("POST", "/v1/register", "", &body).await
    }

    pub async fn register(&self, launched: &Launched, keys: &Keys) -> Answer {
        self.register_with(launched, keys, &json!({})).await
    }

    /// Launches and registers: the pod's token.
    pub async fn agent(&self, pod: &Pod, keys: &Keys) -> String {
        self.agent_with(pod, keys, &Value::Null).await
    }

    /// The same with the member `renewal_proof`.
    pub async fn agent_with(&self, pod: &Pod, keys: &Keys, renewal_proof: &Value) -> String {
        let launched = Self::launched(self.launch_saying(pod, keys, renewal_proof).await);
        let answer = self.register(&launched, keys).await.ok();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// A renewal with an Idempotency-Key (none when empty) and a body.
    pub async fn renew_with(&self, token: &str, key: &str, body: &Value) -> Answer {
        let headers = [("Idempotency-Key", key)];
        let headers = headers.get(..usize::from(!key.is_empty())).unwrap();
        self.renew_with_headers(token, headers, body).await
    }

    /// A renewal with these headers and a body.
    pub async fn renew_with_headers(&self, token: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.renew_with_text(token, headers, &body).await
    }

    /// The same with a body as it is written.
    pub async fn renew_with_text(&self, token: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [&[("Authorization", bearer.as_str())], headers].concat();
        self.send("POST", "/v1/token/renew", &headers, body.to_owned()).await
    }

    /// The controller says that a pod is gone.
    pub async fn end_pod(&self, uid: &str) -> Answer {
        let body = json!({"namespace": "shop", "name": format!("pod-{uid}"), "reason": "deleted"});
        self.as_controller("POST", &format!("/v1/k8s/pods/{uid}/ended"), &body)
            .await
    }

    /// A person lifts a pod's quarantine.
    pub async fn release_pod(&self, uid: &str) -> Value {
        let path = format!("/v1/k8s/pods/{uid}/release");
        self.call("POST", &path, &self.admin().await, &Value::Null).await.ok()
    }

    /// The `error_kind` of the newest event of a type.
    pub async fn last_kind(&self, event_type: &str) -> String {
        let event = self.last(event_type).await;
        event["error_kind"].as_str().unwrap_or("").to_owned()
    }
}
