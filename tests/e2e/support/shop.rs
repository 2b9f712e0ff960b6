//! A namespace of one test: restricted, with an AgentApp, a LaunchToken and a ServiceAccount, and pods on demand.

use std::time::Duration;

use agentwrit_crds::{AgentApp, LaunchToken};
use agentwrit_protocol::inject;
use k8s_openapi::api::core::v1::{ContainerStatus, Namespace, Pod, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::cluster::{self, kubectl};
use crate::support::forward::Forward;
use crate::support::node;
use crate::support::pod::{POD_START, PodSpec, app_started, describe, is_ready, sidecar};
use crate::support::wait::{always, eventually, seconds};

pub(crate) struct Shop {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Shop {
    /// A new namespace whose policies are in force.
    pub(crate) async fn open(name: &str) -> Self {
        let shop = Self::bare(name).await;
        shop.app(&json!(["read:orders:*", "write:orders:*"])).await;
        shop.launch_token("order-reader", "orders", &["read:orders:*"]).await;
        shop.ready("order-reader").await;
        shop
    }

    /// A new namespace with a ServiceAccount and no policies.
    pub(crate) async fn bare(name: &str) -> Self {
        let client = cluster::client().await;
        let api: Api<Namespace> = Api::all(client.clone());
        let manifest = json!({"metadata": {
            "generateName": format!("e2e-{name}-"),
            "labels": {"pod-security.kubernetes.io/enforce": "restricted", "agentwrit.io/e2e": "true"},
        }});
        let created = api.create(&PostParams::default(), &from(manifest)).await.unwrap();
        let shop = Self {
            client,
            namespace: created.metadata.name.unwrap(),
        };
        let account = json!({"metadata": {"name": "order-reader"}});
        let accounts: Api<ServiceAccount> = shop.api();
        accounts.create(&PostParams::default(), &from(account)).await.unwrap();
        shop
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) async fn app(&self, scopes: &Value) {
        let manifest = json!({"apiVersion": "agentwrit.io/v1alpha1", "kind": "AgentApp",
            "metadata": {"name": "orders"}, "spec": {"scopes": scopes}});
        self.apply::<AgentApp>("orders", &manifest).await;
    }

    pub(crate) async fn launch_token(&self, name: &str, app: &str, scopes: &[&str]) {
        self.launch_token_for(name, app, scopes, &["order-reader"]).await;
    }

    pub(crate) async fn launch_token_for(&self, name: &str, app: &str, scopes: &[&str], accounts: &[&str]) {
        let manifest = json!({"apiVersion": "agentwrit.io/v1alpha1", "kind": "LaunchToken",
            "metadata": {"name": name},
            "spec": {"appRef": {"name": app}, "agentName": name, "allowedScopes": scopes, "maxTTLSeconds": 60,
                     "serviceAccountNames": accounts}});
        self.apply::<LaunchToken>(name, &manifest).await;
    }

    async fn apply<K>(&self, name: &str, manifest: &Value)
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + std::fmt::Debug,
        K: serde::de::DeserializeOwned,
        K::DynamicType: Default,
    {
        let api: Api<K> = self.api();
        let parameters = PatchParams::apply("e2e").force();
        api.patch(name, &parameters, &Patch::Apply(manifest)).await.unwrap();
    }

    /// Waits until pods can be launched with this LaunchToken.
    pub(crate) async fn ready(&self, launch_token: &str) {
        eventually("the LaunchToken is Ready", seconds(45), async || {
            let (status, reason, message) = self.condition(launch_token).await?;
            if status == "True" {
                Ok(())
            } else {
                Err(format!("{reason}: {message}"))
            }
        })
        .await;
    }

    /// Status, reason and message of a LaunchToken's condition Ready.
    pub(crate) async fn condition(&self, launch_token: &str) -> Result<(String, String, String), String> {
        let api: Api<LaunchToken> = self.api();
        let object = api.get(launch_token).await.map_err(|error| error.to_string())?;
        let conditions = object.status.map(|status| status.conditions).unwrap_or_default();
        let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
        let ready = ready.ok_or("no condition Ready yet")?;
        Ok((ready.status, ready.reason, ready.message))
    }

    pub(crate) async fn create_pod(&self, spec: &PodSpec) -> Pod {
        let api: Api<Pod> = self.api();
        api.create(&PostParams::default(), &from(spec.0.clone())).await.unwrap()
    }

    /// A pod that is Ready, and its UID.
    pub(crate) async fn running_pod(&self, spec: &PodSpec) -> String {
        let pod = self.create_pod(spec).await;
        self.pod_ready(&pod.metadata.name.unwrap(), POD_START).await;
        pod.metadata.uid.unwrap()
    }

    pub(crate) async fn pod(&self, name: &str) -> Pod {
        let api: Api<Pod> = self.api();
        api.get(name).await.unwrap()
    }

    /// Waits until the pod is Ready; how long that took.
    pub(crate) async fn pod_ready(&self, name: &str, limit: Duration) -> Duration {
        let look = async || {
            let pod = self.pod(name).await;
            if is_ready(&pod) { Ok(()) } else { Err(describe(&pod)) }
        };
        eventually(&format!("pod {name} is Ready"), limit, look).await.1
    }

    /// Fails when the application starts, or the sidecar comes to its end, within `span`.
    pub(crate) async fn pod_waits(&self, name: &str, span: Duration) {
        always("the pod waits", span, async || {
            let pod = self.pod(name).await;
            let restarts = sidecar(&pod).map_or(0, |status| status.restart_count);
            if app_started(&pod) || restarts > 0 {
                Err(describe(&pod))
            } else {
                Ok(())
            }
        })
        .await;
    }

    /// Kills a container of the pod, as a crash would.
    pub(crate) async fn kill(&self, pod: &str, container: fn(&Pod) -> Option<&ContainerStatus>) {
        let pod = self.pod(pod).await;
        let id = container(&pod).and_then(|status| status.container_id.clone());
        node::kill_container(&id.expect("the container has run"));
    }

    /// Deletes the pod; `at_once` without waiting for its containers.
    pub(crate) async fn delete_pod(&self, name: &str, at_once: bool) {
        let api: Api<Pod> = self.api();
        let parameters = if at_once {
            DeleteParams::default().grace_period(0)
        } else {
            DeleteParams::default()
        };
        api.delete(name, &parameters).await.unwrap();
    }

    /// Waits until no such pod exists.
    pub(crate) async fn pod_gone(&self, name: &str) {
        let api: Api<Pod> = self.api();
        eventually("the pod is gone", seconds(40), async || match api.get_opt(name).await {
            Ok(None) => Ok(()),
            Ok(Some(pod)) => Err(describe(&pod)),
            Err(error) => Err(error.to_string()),
        })
        .await;
    }

    /// Log of a container; empty while there is none.
    pub(crate) fn logs(&self, pod: &str, container: &str) -> String {
        kubectl(&["--namespace", &self.namespace, "logs", pod, "--container", container]).unwrap_or_default()
    }

    /// Waits for a line in a container's log that holds all of `words`; the line.
    pub(crate) async fn log_line(&self, pod: &str, container: &str, words: &[&str], limit: Duration) -> String {
        let what = format!("a log line of {pod}/{container} with {words:?}");
        eventually(&what, limit, async || {
            let log = self.logs(pod, container);
            let line = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
            line.map(str::to_owned).ok_or_else(|| last_lines(&log))
        })
        .await
        .0
    }

    /// Waits for an Event on the pod whose note holds all of `words`; its reason.
    pub(crate) async fn event(&self, pod: &str, words: &[&str], limit: Duration) -> String {
        use k8s_openapi::api::events::v1::Event;
        let api: Api<Event> = self.api();
        eventually(&format!("an Event on {pod} with {words:?}"), limit, async || {
            let events = api
                .list(&kube::api::ListParams::default())
                .await
                .map_err(|error| error.to_string())?;
            let notes = events.items.into_iter().filter(|event| {
                let regarding = event.regarding.as_ref();
                regarding.and_then(|object| object.name.as_deref()) == Some(pod)
            });
            let notes: Vec<(String, String)> = notes
                .map(|event| (event.reason.unwrap_or_default(), event.note.unwrap_or_default()))
                .collect();
            let found = notes
                .iter()
                .find(|(_, note)| words.iter().all(|word| note.contains(word)));
            found
                .map(|(reason, _)| reason.clone())
                .ok_or_else(|| format!("{notes:?}"))
        })
        .await
        .0
    }

    pub(crate) async fn broker(&self) -> Broker {
        let look = async || Broker::open(&self.client).await;
        eventually("the broker answers", seconds(60), look).await.0
    }

    /// The pod's token, from the sidecar's endpoint: `Err` while there is none.
    pub(crate) fn token(&self, pod: &str) -> Result<String, String> {
        let forward = Forward::open(&self.namespace, &format!("pod/{pod}"), inject::ENDPOINT_PORT)?;
        let (status, body) = forward.get(
            inject::ENDPOINT_PATH,
            &[("Host", "127.0.0.1:15080"), (inject::ENDPOINT_HEADER, "1")],
        )?;
        match status {
            200 => Ok(body.trim().to_owned()),
            status => Err(format!("the endpoint answers {status}: {body}")),
        }
    }

    /// A ServiceAccount token like the one that the sidecar has: bound to the pod, for our audience.
    pub(crate) fn identity(&self, pod: &str, uid: &str) -> String {
        let token = kubectl(&[
            "--namespace",
            &self.namespace,
            "create",
            "token",
            "order-reader",
            &format!("--audience=agentwrit://{}/{}", cluster::SYSTEM, cluster::RELEASE),
            "--bound-object-kind=Pod",
            &format!("--bound-object-name={pod}"),
            &format!("--bound-object-uid={uid}"),
        ]);
        token.unwrap().trim().to_owned()
    }

    /// Brings the orders service up in this namespace.
    pub(crate) fn orders_service(&self) {
        let manifest = std::fs::read_to_string(format!("{}/examples/shop/30-orders-service.yaml", cluster::REPO));
        let manifest = manifest
            .unwrap()
            .replace("namespace: shop", &format!("namespace: {}", self.namespace));
        let file = std::env::temp_dir().join(format!("{}.yaml", self.namespace));
        std::fs::write(&file, manifest).unwrap();
        kubectl(&["apply", "--filename", file.to_str().unwrap()]).unwrap();
        std::fs::remove_file(&file).unwrap();
        let wait = [
            "--namespace",
            &self.namespace,
            "rollout",
            "status",
            "deployment/orders",
            "--timeout=60s",
        ];
        kubectl(&wait).unwrap();
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        let _ = kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
    }
}

impl Shop {
    /// What a person would look at after a failure.
    fn tell(&self) {
        let all = |arguments: &[&str]| kubectl(arguments).unwrap_or_else(|error| error);
        let in_namespace = ["--namespace", self.namespace.as_str()];
        eprintln!("--- namespace {}", self.namespace);
        eprintln!(
            "{}",
            all(&[
                &in_namespace[..],
                &["get", "agentapps,launchtokens,pods", "--output=wide"]
            ]
            .concat())
        );
        eprintln!(
            "{}",
            all(&[&in_namespace[..], &["get", "events", "--sort-by=.lastTimestamp"]].concat())
        );
        let pods = all(&[&in_namespace[..], &["get", "pods", "--output=name"]].concat());
        for pod in pods.lines() {
            eprintln!("--- {pod}");
            eprintln!(
                "{}",
                all(&[
                    &in_namespace[..],
                    &["logs", pod, "--all-containers", "--prefix", "--tail=25"]
                ]
                .concat())
            );
        }
        // By label: the broker is a StatefulSet or a Deployment.
        for component in ["controller", "broker"] {
            eprintln!("--- {component}");
            let label = format!("--selector=app.kubernetes.io/component={component}");
            eprintln!(
                "{}",
                all(&["--namespace", cluster::SYSTEM, "logs", &label, "--prefix", "--tail=25"])
            );
        }
    }
}

pub(crate) fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}
