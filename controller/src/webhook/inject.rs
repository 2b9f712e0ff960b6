//! From a pod to the patch that injects the sidecar: pure.

use std::collections::BTreeMap;

use agentwrit_protocol::inject::{
    ANNOTATION_ALLOW_SHARED_PID, ANNOTATION_CONTAINERS, ANNOTATION_ENDPOINT, ANNOTATION_LAUNCH_TOKEN, CONTAINER_NAME,
    ENDPOINT_PORT, HEALTH_PORT, LABEL_INJECTED, RESERVED_PREFIX, TOKEN_DIR, VOLUME_IDENTITY, VOLUME_TOKEN,
};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use serde_json::{Value, json};

use super::injected::{self, SidecarSettings};
use super::patch::PatchBuilder;
use super::refusal::Refusal;
use super::request::InjectionRequest;

/// Proxies that our sidecar comes directly after, because its own traffic goes through them.
const MESH_PROXIES: [&str; 2] = ["istio-proxy", "linkerd-proxy"];
/// Annotations of ours that mean something on a pod.
const KNOWN_ANNOTATIONS: [&str; 7] = [
    ANNOTATION_LAUNCH_TOKEN,
    agentwrit_protocol::inject::ANNOTATION_SCOPES,
    agentwrit_protocol::inject::ANNOTATION_TTL_SECONDS,
    ANNOTATION_CONTAINERS,
    ANNOTATION_ENDPOINT,
    agentwrit_protocol::inject::ANNOTATION_START_GATE,
    ANNOTATION_ALLOW_SHARED_PID,
];

/// What to do with a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Injection {
    /// JSON patch operations (RFC 6902); none when everything is there already.
    pub patch: Vec<Value>,
    /// Name of the `LaunchToken`.
    pub launch_token: String,
    /// Sentences for the person who made the pod.
    pub warnings: Vec<String>,
}

type Annotations = BTreeMap<String, String>;

/// Decides what to inject into `pod`.
///
/// # Errors
/// Why the pod is refused.
pub fn inject(pod: &Pod, namespace: &Annotations, settings: &SidecarSettings) -> Result<Injection, Refusal> {
    let none = Annotations::new();
    let annotations = pod.metadata.annotations.as_ref().unwrap_or(&none);
    let spec = pod
        .spec
        .as_ref()
        .ok_or_else(|| Refusal::Malformed("the pod has no spec".into()))?;
    supported(spec, annotations)?;
    let request = InjectionRequest::parse(annotations, namespace, spec)?;
    let present = reserved_names(spec, settings, &request)?;

    let mut patch = PatchBuilder::default();
    labels_and_annotations(&mut patch, pod, &request);
    if !present {
        volumes_and_mounts(&mut patch, spec, settings, &request)?;
        // Last, so that the indices of the present init containers hold until then.
        let inits = spec.init_containers.as_deref().unwrap_or_default();
        patch.list("/spec/initContainers", spec.init_containers.is_some());
        let position = position(inits);
        patch.add(
            &format!("/spec/initContainers/{position}"),
            injected::container(settings, &request),
        );
    }
    Ok(Injection {
        patch: patch.into_operations(),
        warnings: warnings(annotations, spec, &request),
        launch_token: request.launch_token,
    })
}

/// First of all init containers, except directly after mesh proxies.
fn position(inits: &[Container]) -> usize {
    inits
        .iter()
        .rposition(|container| MESH_PROXIES.contains(&container.name.as_str()))
        .map_or(0, |index| index + 1)
}

fn supported(spec: &PodSpec, annotations: &Annotations) -> Result<(), Refusal> {
    if spec.host_network == Some(true) {
        return Err(Refusal::HostNetwork);
    }
    let selector = spec
        .node_selector
        .as_ref()
        .and_then(|selector| selector.get("kubernetes.io/os"));
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") || selector.is_some_and(|os| os == "windows") {
        return Err(Refusal::Windows);
    }
    if annotations.get(ANNOTATION_ALLOW_SHARED_PID).map(String::as_str) != Some("true") {
        if spec.host_pid == Some(true) {
            return Err(Refusal::SharedPid { field: "spec.hostPID" });
        }
        if spec.share_process_namespace == Some(true) {
            return Err(Refusal::SharedPid {
                field: "spec.shareProcessNamespace",
            });
        }
    }
    Ok(())
}

/// Whether everything is injected already; any other use of a reserved name is refused.
fn reserved_names(spec: &PodSpec, settings: &SidecarSettings, request: &InjectionRequest) -> Result<bool, Refusal> {
    let refuse = |item: String, difference: String| Err(Refusal::ReservedName { item, difference });
    let mut present = false;
    let inits = spec.init_containers.iter().flatten();
    for container in inits.clone() {
        if container.name == CONTAINER_NAME && !present {
            if let Some(difference) =
                injected::difference(&injected::container(settings, request), &as_json(container)?)
            {
                return refuse(format!("init container {}", container.name), difference);
            }
            present = true;
        } else if container.name.starts_with(RESERVED_PREFIX) {
            return refuse(
                format!("init container {}", container.name),
                "it is not injected".into(),
            );
        }
    }
    if let Some(container) = spec
        .containers
        .iter()
        .find(|container| container.name.starts_with(RESERVED_PREFIX))
    {
        return refuse(format!("container {}", container.name), "it is not injected".into());
    }
    let mut volumes = 0;
    for volume in spec
        .volumes
        .iter()
        .flatten()
        .filter(|volume| volume.name.starts_with(RESERVED_PREFIX))
    {
        let expected = match volume.name.as_str() {
            VOLUME_TOKEN => injected::token_volume(),
            VOLUME_IDENTITY => injected::identity_volume(settings),
            _ => return refuse(format!("volume {}", volume.name), "it is not injected".into()),
        };
        if let Some(difference) = injected::difference(&expected, &as_json(volume)?) {
            return refuse(format!("volume {}", volume.name), difference);
        }
        if !present {
            return refuse(
                format!("volume {}", volume.name),
                format!("there is no init container {CONTAINER_NAME}"),
            );
        }
        volumes += 1;
    }
    for container in inits
        .chain(&spec.containers)
        .filter(|container| container.name != CONTAINER_NAME)
    {
        let mounts = container.volume_mounts.iter().flatten();
        for mount in mounts.filter(|mount| mount.name.starts_with(RESERVED_PREFIX)) {
            let item = format!("mount of {} in container {}", mount.name, container.name);
            if !present || !request.gives_to(&container.name) || mount.name != VOLUME_TOKEN {
                return refuse(item, "it is not injected".into());
            }
            if let Some(difference) = injected::difference(&injected::token_mount(), &as_json(mount)?) {
                return refuse(item, difference);
            }
        }
    }
    if present && volumes != 2 {
        let missing = format!("both volumes {VOLUME_TOKEN} and {VOLUME_IDENTITY}");
        return Err(Refusal::Incomplete { missing });
    }
    Ok(present)
}

fn as_json<T: serde::Serialize>(item: &T) -> Result<Value, Refusal> {
    serde_json::to_value(item).map_err(|error| Refusal::Malformed(error.to_string()))
}

fn labels_and_annotations(patch: &mut PatchBuilder, pod: &Pod, request: &InjectionRequest) {
    let labels = pod.metadata.labels.as_ref();
    if labels.and_then(|labels| labels.get(LABEL_INJECTED)).map(String::as_str) != Some("true") {
        patch.map("/metadata/labels", labels.is_some());
        patch.add_key("/metadata/labels", LABEL_INJECTED, json!("true"));
    }
    if request.from_namespace {
        patch.map("/metadata/annotations", pod.metadata.annotations.is_some());
        patch.add_key(
            "/metadata/annotations",
            ANNOTATION_LAUNCH_TOKEN,
            json!(request.launch_token),
        );
    }
}

fn volumes_and_mounts(
    patch: &mut PatchBuilder,
    spec: &PodSpec,
    settings: &SidecarSettings,
    request: &InjectionRequest,
) -> Result<(), Refusal> {
    patch.list("/spec/volumes", spec.volumes.is_some());
    patch.add("/spec/volumes/-", injected::token_volume());
    patch.add("/spec/volumes/-", injected::identity_volume(settings));
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    let after = position(inits);
    for (list, containers) in [("initContainers", inits), ("containers", spec.containers.as_slice())] {
        for (index, container) in containers.iter().enumerate() {
            // What runs before the sidecar can't have a token yet; it gets one only when it is named.
            let too_early = list == "initContainers" && index < after && request.containers.is_none();
            if request.gives_to(&container.name) && !too_early {
                token_in(patch, &format!("/spec/{list}/{index}"), container, request)?;
            }
        }
    }
    Ok(())
}

fn token_in(
    patch: &mut PatchBuilder,
    at: &str,
    container: &Container,
    request: &InjectionRequest,
) -> Result<(), Refusal> {
    let mounts = container.volume_mounts.as_ref();
    if let Some(taken) = mounts
        .into_iter()
        .flatten()
        .find(|mount| mount.mount_path.trim_end_matches('/') == TOKEN_DIR)
    {
        return Err(Refusal::MountTaken {
            container: container.name.clone(),
            volume: taken.name.clone(),
            path: TOKEN_DIR,
        });
    }
    patch.list(&format!("{at}/volumeMounts"), mounts.is_some());
    patch.add(&format!("{at}/volumeMounts/-"), injected::token_mount());
    let env = container.env.as_ref();
    let missing: Vec<Value> = injected::app_env(request)
        .into_iter()
        .filter(|variable| {
            !env.into_iter()
                .flatten()
                .any(|present| variable["name"] == present.name.as_str())
        })
        .collect();
    if !missing.is_empty() {
        patch.list(&format!("{at}/env"), env.is_some());
        for variable in missing {
            patch.add(&format!("{at}/env/-"), variable);
        }
    }
    Ok(())
}

fn warnings(annotations: &Annotations, spec: &PodSpec, request: &InjectionRequest) -> Vec<String> {
    let unknown = annotations
        .keys()
        .filter(|key| key.starts_with("agentwrit.io/") && !KNOWN_ANNOTATIONS.contains(&key.as_str()))
        .map(|key| format!("annotation {key} has no meaning on a pod in this version of AgentWrit and is ignored"));
    let mut warnings: Vec<String> = unknown.collect();
    let mut containers = spec.containers.iter();
    if request.endpoint && containers.any(|container| !request.gives_to(&container.name)) {
        // All containers of a pod share 127.0.0.1.
        warnings.push(format!(
            "annotation {ANNOTATION_CONTAINERS} limits who has the token file; the other containers can still ask the \
             endpoint for the token, unless {ANNOTATION_ENDPOINT}: \"off\" is set"
        ));
    }
    let ports = [i32::from(HEALTH_PORT), i32::from(ENDPOINT_PORT)];
    for container in spec
        .containers
        .iter()
        .filter(|container| container.name != CONTAINER_NAME)
    {
        for port in container
            .ports
            .iter()
            .flatten()
            .filter(|port| ports.contains(&port.container_port))
        {
            warnings.push(format!(
                "container {} declares port {}, which the AgentWrit sidecar listens on",
                container.name, port.container_port
            ));
        }
    }
    warnings
}

#[cfg(test)]
#[path = "inject_tests.rs"]
mod tests;
