//! The injected items, exactly as they are put in, as JSON.

use agentwrit_protocol::inject::{
    API_TOKEN_DIR, CA_CONFIG_MAP, CA_CONFIG_MAP_KEY, CONTAINER_NAME, ENDPOINT_URL, ENV_BROKER_URL, ENV_ENDPOINT,
    ENV_ENDPOINT_ENABLED, ENV_LAUNCH_TOKEN, ENV_SCOPES, ENV_TOKEN_FILE, ENV_TOKEN_FILE_GID, ENV_TTL_SECONDS,
    HEALTH_PORT, HEALTH_READY_PATH, HEALTH_STARTUP_PATH, IDENTITY_DIR, IDENTITY_TOKEN_SECONDS, TOKEN_DIR, TOKEN_FILE,
    VOLUME_EMPTY, VOLUME_IDENTITY, VOLUME_TOKEN, WAIT_COMMAND,
};
use serde_json::{Value, json};

use super::request::InjectionRequest;
use super::resources::{GuaranteedCpu, Resources};
use super::start_gate::StartGate;
use crate::config::Config;

/// Settings of the sidecar that are the same for all pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidecarSettings {
    /// Image reference.
    pub image: String,
    /// imagePullPolicy.
    pub pull_policy: String,
    /// runAsUser; the platform's choice when `None`.
    pub uid: Option<i64>,
    /// URL of the broker.
    pub broker_url: String,
    /// Audience of the pod's `ServiceAccount` token.
    pub audience: String,
    /// CPU and memory of pods that ask for no others.
    pub resources: Resources,
    /// Of those that have to have a CPU limit.
    pub guaranteed_cpu: GuaranteedCpu,
    /// What the application's start waits for, in pods that say nothing of it.
    pub start_gate: StartGate,
}

impl From<&Config> for SidecarSettings {
    fn from(config: &Config) -> Self {
        Self {
            image: config.sidecar_image.clone(),
            pull_policy: config.sidecar_pull_policy.clone(),
            uid: config.sidecar_uid,
            broker_url: config.broker_url.clone(),
            audience: config.attest_audience.clone(),
            resources: config.sidecar_resources.clone(),
            guaranteed_cpu: config.sidecar_guaranteed_cpu.clone(),
            start_gate: config.sidecar_start_gate,
        }
    }
}

/// Environment of the sidecar that is ours.
pub(crate) const SIDECAR_ENV: [&str; 6] = [
    ENV_BROKER_URL,
    ENV_LAUNCH_TOKEN,
    ENV_ENDPOINT_ENABLED,
    ENV_SCOPES,
    ENV_TTL_SECONDS,
    ENV_TOKEN_FILE_GID,
];

/// Those of [`SIDECAR_ENV`] that may be empty. They are set nevertheless: what is unset, an `envFrom` would set.
pub(crate) const MAY_BE_EMPTY: [&str; 3] = [ENV_SCOPES, ENV_TTL_SECONDS, ENV_TOKEN_FILE_GID];

/// What the sidecar is to find in [`SIDECAR_ENV`], for a pod.
pub(crate) fn sidecar_env(settings: &SidecarSettings, request: &InjectionRequest) -> [String; SIDECAR_ENV.len()] {
    [
        settings.broker_url.clone(),
        request.launch_token.clone(),
        request.endpoint.to_string(),
        request.scopes.clone().unwrap_or_default(),
        request.ttl.map_or_else(String::new, |ttl| ttl.to_string()),
        request.group.map_or_else(String::new, |group| group.to_string()),
    ]
}

pub(crate) fn container(settings: &SidecarSettings, request: &InjectionRequest) -> Value {
    let values = sidecar_env(settings, request);
    let set = SIDECAR_ENV.iter().zip(&values);
    let env: Vec<Value> = set.map(|(name, value)| variable(name, value)).collect();
    let mut container = json!({
        "name": CONTAINER_NAME,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "restartPolicy": "Always",
        "env": env,
        "resources": request.resources.to_json(),
        "securityContext": security_context(settings),
        "readinessProbe": readiness_probe(),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "volumeMounts": [sidecar_token_mount(), identity_mount(), empty_mount()],
    });
    if let (Some((field, gate)), Some(container)) = (gate(request.gate), container.as_object_mut()) {
        container.insert(field.to_owned(), gate);
    }
    container
}

/// The field of the container that makes the application's start wait, and its value.
pub(crate) fn gate(gate: StartGate) -> Option<(&'static str, Value)> {
    match gate {
        StartGate::Probe => Some(("startupProbe", startup_probe())),
        StartGate::Hook => Some(("lifecycle", json!({"postStart": post_start()}))),
        StartGate::None => None,
    }
}

/// An environment variable in which the container finds `value`.
pub(crate) fn variable(name: &str, value: &str) -> Value {
    json!({"name": name, "value": escaped(value)})
}

/// As it is written in a pod: the kubelet puts another variable's value where `$(NAME)` is, and makes `$$` one `$`.
pub(crate) fn escaped(value: &str) -> String {
    value.replace('$', "$$")
}

/// Whether the container finds `value` in a variable that is `found` in the pod.
pub(crate) fn is_read_as(found: &str, value: &str) -> bool {
    // The version before didn't write "$$".
    let is_literal = !found.contains("$$") && !found.contains("$(");
    found == escaped(value) || (is_literal && found == value)
}

/// The sidecar's security context: all that Pod Security `restricted` asks for, and a read-only root.
pub(crate) fn security_context(settings: &SidecarSettings) -> Value {
    let mut security = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if let (Some(uid), Some(security)) = (settings.uid, security.as_object_mut()) {
        security.insert("runAsUser".into(), json!(uid));
        security.insert("runAsGroup".into(), json!(uid));
    }
    security
}

/// The kubelet goes on with the next container when this has ended.
pub(crate) fn post_start() -> Value {
    json!({"exec": {"command": WAIT_COMMAND}})
}

/// The app starts when there is a token; until then the kubelet never gives up.
fn startup_probe() -> Value {
    probe(HEALTH_STARTUP_PATH, 1, i32::MAX)
}

/// The pod is ready while there is a token.
pub(crate) fn readiness_probe() -> Value {
    probe(HEALTH_READY_PATH, 5, 2)
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Value {
    json!({
        "httpGet": {"path": path, "port": HEALTH_PORT, "scheme": "HTTP"},
        "periodSeconds": period_seconds,
        "timeoutSeconds": 1,
        "successThreshold": 1,
        "failureThreshold": failure_threshold,
    })
}

/// The volume with the token file: in memory, so that no token reaches a disk.
pub(crate) fn token_volume() -> Value {
    json!({"name": VOLUME_TOKEN, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})
}

/// The volume with the pod's `ServiceAccount` token and the CA.
pub(crate) fn identity_volume(settings: &SidecarSettings) -> Value {
    json!({
        "name": VOLUME_IDENTITY,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {"serviceAccountToken": {
                    "audience": settings.audience, "expirationSeconds": IDENTITY_TOKEN_SECONDS, "path": "token",
                }},
                {"configMap": {
                    "name": CA_CONFIG_MAP, "items": [{"key": CA_CONFIG_MAP_KEY, "path": CA_CONFIG_MAP_KEY}],
                }},
            ],
        },
    })
}

/// The volume that is mounted where the sidecar would find the pod's API token. In memory, for an emptyDir on disk keeps a
/// cluster autoscaler from removing the node.
pub(crate) fn empty_volume() -> Value {
    json!({"name": VOLUME_EMPTY, "emptyDir": {"medium": "Memory", "sizeLimit": "4Ki"}})
}

/// The mount of the token's volume in a chosen container.
pub(crate) fn token_mount() -> Value {
    json!({"name": VOLUME_TOKEN, "mountPath": TOKEN_DIR, "readOnly": true})
}

/// The mount of the token's volume in the sidecar, which writes there.
pub(crate) fn sidecar_token_mount() -> Value {
    json!({"name": VOLUME_TOKEN, "mountPath": TOKEN_DIR})
}

/// The mount of the identity's volume, in the sidecar alone.
pub(crate) fn identity_mount() -> Value {
    json!({"name": VOLUME_IDENTITY, "mountPath": IDENTITY_DIR, "readOnly": true})
}

/// The mount over the pod's API token, in the sidecar alone: it needs none.
pub(crate) fn empty_mount() -> Value {
    json!({"name": VOLUME_EMPTY, "mountPath": API_TOKEN_DIR, "readOnly": true})
}

/// Environment of a chosen container: where the token file is.
pub(crate) fn token_file_variable() -> Value {
    variable(ENV_TOKEN_FILE, TOKEN_FILE)
}

/// Environment of a chosen container: where the endpoint is.
pub(crate) fn endpoint_variable() -> Value {
    variable(ENV_ENDPOINT, ENDPOINT_URL)
}
