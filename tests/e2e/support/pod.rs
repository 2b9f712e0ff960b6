//! A pod: its manifest, and what its status says.

use std::time::Duration;

use agentwrit_protocol::inject;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use serde_json::{Value, json};

/// How long a pod may take to become Ready on a busy machine of two cores.
pub(crate) const POD_START: Duration = Duration::from_mins(1);
/// The demo image.
pub(crate) const IMAGE: &str = "localhost/agentwrit-demo:dev";

/// A pod's manifest, to be changed before it is created.
pub(crate) struct PodSpec(pub(crate) Value);

impl PodSpec {
    /// An opted-in pod that calls the orders service every second.
    pub(crate) fn reader(name: &str) -> Self {
        Self(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name,
                "labels": {inject::LABEL_INJECT: "true", "app": name},
                "annotations": {inject::ANNOTATION_LAUNCH_TOKEN: "order-reader"},
            },
            "spec": pod_template_spec(&["client", "--interval=1"]),
        }))
    }

    pub(crate) fn annotation(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["annotations"][key] = json!(value);
        self
    }

    pub(crate) fn service_account(mut self, name: &str) -> Self {
        self.0["spec"]["serviceAccountName"] = json!(name);
        self
    }
}

/// What passes the level `restricted`, around one container of the demo image.
pub(crate) fn pod_template_spec(arguments: &[&str]) -> Value {
    json!({
        "serviceAccountName": "order-reader",
        "automountServiceAccountToken": false,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container("app", arguments)],
    })
}

pub(crate) fn container(name: &str, arguments: &[&str]) -> Value {
    json!({
        "name": name, "image": IMAGE, "imagePullPolicy": "Never", "args": arguments,
        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
    })
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}

/// Status of the sidecar.
pub(crate) fn sidecar(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == inject::CONTAINER_NAME)
}

/// Status of the first container.
pub(crate) fn app(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

/// Whether the application was ever started.
pub(crate) fn app_started(pod: &Pod) -> bool {
    app(pod).is_some_and(|status| {
        let state = status.state.clone().unwrap_or_default();
        state.running.is_some() || state.terminated.is_some() || status.restart_count > 0
    })
}

pub(crate) fn describe(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let init = status.init_container_statuses.iter().flatten();
    let all = init.chain(status.container_statuses.iter().flatten());
    let texts = all.map(|one| {
        format!(
            "{}: {}",
            one.name,
            serde_json::to_string(&one.state).unwrap_or_default()
        )
    });
    format!("phase {:?}, {}", status.phase, texts.collect::<Vec<_>>().join(", "))
}
