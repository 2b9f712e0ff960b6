//! The injected items, exactly as they should be, as JSON.
//!
//! What the API server would default is written out, so that what comes back compares equal.

use agentwrit_protocol::inject::{
    CA_CONFIG_MAP, CA_CONFIG_MAP_KEY, CONTAINER_NAME, ENDPOINT_URL, ENV_BROKER_URL, ENV_ENDPOINT, ENV_ENDPOINT_ENABLED,
    ENV_LAUNCH_TOKEN, ENV_SCOPES, ENV_TOKEN_FILE, ENV_TTL_SECONDS, HEALTH_PORT, HEALTH_READY_PATH, HEALTH_STARTUP_PATH,
    IDENTITY_DIR, IDENTITY_TOKEN_SECONDS, TOKEN_DIR, TOKEN_FILE, VOLUME_IDENTITY, VOLUME_TOKEN,
};
use serde_json::{Value, json};

use super::request::InjectionRequest;
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
}

impl From<&Config> for SidecarSettings {
    fn from(config: &Config) -> Self {
        Self {
            image: config.sidecar_image.clone(),
            pull_policy: config.sidecar_pull_policy.clone(),
            uid: config.sidecar_uid,
            broker_url: config.broker_url.clone(),
            audience: config.attest_audience.clone(),
        }
    }
}

/// CPU of the sidecar. Its start costs 65 ms of it, the runtime's part included: with 50m the token came after
/// 1.1 s, with 100m after 0.4 s, before the kubelet looks again (docs/performance.md).
const CPU: &str = "100m";
/// Memory of the sidecar: four times what it uses.
const MEMORY: &str = "16Mi";

/// The sidecar's container.
pub fn container(settings: &SidecarSettings, request: &InjectionRequest) -> Value {
    let mut env = vec![
        json!({"name": ENV_BROKER_URL, "value": settings.broker_url}),
        json!({"name": ENV_LAUNCH_TOKEN, "value": request.launch_token}),
        json!({"name": ENV_ENDPOINT_ENABLED, "value": request.endpoint.to_string()}),
    ];
    if let Some(scopes) = &request.scopes {
        env.push(json!({"name": ENV_SCOPES, "value": scopes}));
    }
    if let Some(seconds) = request.ttl_seconds {
        env.push(json!({"name": ENV_TTL_SECONDS, "value": seconds.to_string()}));
    }
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
    json!({
        "name": CONTAINER_NAME,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "restartPolicy": "Always",
        "env": env,
        "resources": {
            "requests": {"cpu": CPU, "memory": MEMORY},
            "limits": {"cpu": CPU, "memory": MEMORY},
        },
        "securityContext": security,
        // The app starts when there is a token; until then the kubelet never gives up.
        "startupProbe": probe(HEALTH_STARTUP_PATH, 1, i32::MAX),
        "readinessProbe": probe(HEALTH_READY_PATH, 5, 2),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            {"name": VOLUME_TOKEN, "mountPath": TOKEN_DIR},
            {"name": VOLUME_IDENTITY, "mountPath": IDENTITY_DIR, "readOnly": true},
        ],
    })
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
pub fn token_volume() -> Value {
    json!({"name": VOLUME_TOKEN, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})
}

/// The volume with the pod's `ServiceAccount` token and the CA.
pub fn identity_volume(settings: &SidecarSettings) -> Value {
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

/// The mount of the token's volume in a chosen container.
pub fn token_mount() -> Value {
    json!({"name": VOLUME_TOKEN, "mountPath": TOKEN_DIR, "readOnly": true})
}

/// What a chosen container's environment gets.
pub fn app_env(request: &InjectionRequest) -> Vec<Value> {
    let mut env = vec![json!({"name": ENV_TOKEN_FILE, "value": TOKEN_FILE})];
    if request.endpoint {
        env.push(json!({"name": ENV_ENDPOINT, "value": ENDPOINT_URL}));
    }
    env
}

/// The first difference between an item of the pod and what it should be, as the path of the field; API defaults
/// that a manifest may leave out don't count, nor does the token mount that the API server adds by itself.
pub fn difference(expected: &Value, actual: &Value) -> Option<String> {
    compare("", expected, actual)
}

/// Fields that the API server defaults and a hand-written manifest may lack.
const DEFAULTED: [&str; 8] = [
    "terminationMessagePath",
    "terminationMessagePolicy",
    "scheme",
    "successThreshold",
    "timeoutSeconds",
    "defaultMode",
    "periodSeconds",
    "failureThreshold",
];

fn compare(path: &str, expected: &Value, actual: &Value) -> Option<String> {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            for (key, value) in expected {
                let path = join(path, key);
                match actual.get(key) {
                    Some(found) => {
                        if let Some(difference) = compare(&path, value, found) {
                            return Some(difference);
                        }
                    }
                    None if DEFAULTED.contains(&key.as_str()) && is_default(key, value) => {}
                    None => return Some(format!("{path} is missing")),
                }
            }
            let extra = actual
                .iter()
                .find(|(key, value)| !expected.contains_key(*key) && !is_empty(value));
            extra.map(|(key, _)| format!("{} is not injected", join(path, key)))
        }
        (Value::Array(expected), Value::Array(actual)) => {
            let actual: Vec<&Value> = actual.iter().filter(|item| !is_api_access(item)).collect();
            if expected.len() != actual.len() {
                return Some(format!(
                    "{path} has {} items instead of {}",
                    actual.len(),
                    expected.len()
                ));
            }
            let mut pairs = expected.iter().zip(actual).enumerate();
            pairs.find_map(|(index, (expected, actual))| compare(&format!("{path}[{index}]"), expected, actual))
        }
        _ if expected == actual => None,
        _ => Some(format!("{path} differs")),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Whether leaving `key` out gives this value.
fn is_default(key: &str, value: &Value) -> bool {
    let default = match key {
        "terminationMessagePath" => json!("/dev/termination-log"),
        "terminationMessagePolicy" => json!("File"),
        "scheme" => json!("HTTP"),
        "successThreshold" | "timeoutSeconds" => json!(1),
        "defaultMode" => json!(0o644),
        "periodSeconds" => json!(10),
        "failureThreshold" => json!(3),
        _ => return false,
    };
    *value == default
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The mount that the `ServiceAccount` admission plugin adds to every container.
fn is_api_access(item: &Value) -> bool {
    let text = |key| item.get(key).and_then(Value::as_str).unwrap_or_default();
    text("name").starts_with("kube-api-access-")
        && text("mountPath") == "/var/run/secrets/kubernetes.io/serviceaccount"
        && item.get("readOnly").and_then(Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> (SidecarSettings, InjectionRequest) {
        let settings = SidecarSettings {
            image: "local/agentwrit-sidecar:dev".into(),
            pull_policy: "Never".into(),
            uid: Some(64512),
            broker_url: "https://agentwrit-broker.agentwrit-system.svc:8443".into(),
            audience: "agentwrit://agentwrit-system/agentwrit".into(),
        };
        let request = InjectionRequest {
            launch_token: "reader".into(),
            from_namespace: false,
            scopes: None,
            ttl_seconds: None,
            containers: None,
            endpoint: true,
        };
        (settings, request)
    }

    #[test]
    fn defaults_and_the_api_access_mount_are_no_difference() {
        let (settings, request) = parts();
        let expected = container(&settings, &request);
        assert_eq!(difference(&expected, &expected), None);
        let mut actual = expected.clone();
        actual["volumeMounts"].as_array_mut().unwrap().push(json!({
            "name": "kube-api-access-x7f", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true
        }));
        actual.as_object_mut().unwrap().remove("terminationMessagePath");
        actual["startupProbe"]["httpGet"]
            .as_object_mut()
            .unwrap()
            .remove("scheme");
        assert_eq!(difference(&expected, &actual), None);
    }

    #[test]
    fn any_other_difference_is_named() {
        let (settings, request) = parts();
        let expected = container(&settings, &request);
        let with = |pointer: &str, value: Value| {
            let mut actual = expected.clone();
            *actual.pointer_mut(pointer).unwrap() = value;
            difference(&expected, &actual)
        };
        assert_eq!(with("/image", json!("evil")).as_deref(), Some("image differs"));
        assert_eq!(
            with("/securityContext/runAsNonRoot", json!(false)).as_deref(),
            Some("securityContext.runAsNonRoot differs")
        );
        assert_eq!(
            with("/env/1/value", json!("other")).as_deref(),
            Some("env[1].value differs")
        );
        assert_eq!(
            with("/startupProbe/periodSeconds", json!(10)).as_deref(),
            Some("startupProbe.periodSeconds differs")
        );

        let mut actual = expected.clone();
        actual["command"] = json!(["sh"]);
        assert_eq!(
            difference(&expected, &actual).as_deref(),
            Some("command is not injected")
        );
        let mut actual = expected.clone();
        actual["startupProbe"]
            .as_object_mut()
            .unwrap()
            .remove("failureThreshold");
        assert_eq!(
            difference(&expected, &actual).as_deref(),
            Some("startupProbe.failureThreshold is missing")
        );
        let mut actual = expected.clone();
        actual["volumeMounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "data", "mountPath": "/data"}));
        assert_eq!(
            difference(&expected, &actual).as_deref(),
            Some("volumeMounts has 3 items instead of 2")
        );
    }

    #[test]
    fn the_uid_is_left_to_the_platform_when_unset() {
        let (mut settings, request) = parts();
        settings.uid = None;
        let container = container(&settings, &request);
        assert!(container["securityContext"].get("runAsUser").is_none());
        assert_eq!(container["securityContext"]["runAsNonRoot"], json!(true));
    }
}
