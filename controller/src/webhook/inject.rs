//! From a pod to the patch that injects the sidecar: pure.
//!
//! Every item is looked at the same way, whether the pod comes for the first time or again: it is right and stays, it
//! is missing and is put in, or it contradicts and the pod is refused.

use agentwrit_protocol::inject::{
    ANNOTATION_ALLOW_SHARED_PID, ANNOTATION_ALLOW_SHARED_PIDS, ANNOTATION_CONTAINERS, ANNOTATION_ENDPOINT,
    ANNOTATION_LAUNCH_TOKEN, CONTAINER_NAME, ENDPOINT_PORT, HEALTH_PORT, LABEL_INJECTED, RESERVED_PREFIX, TOKEN_DIR,
};
use serde_json::json;

use super::annotations::Annotations;
use super::bounds;
use super::patch::PatchBuilder;
use super::pod::{Container, Pod, Spec};
use super::refusal::{Refusal, name};
use super::reinvocation::{mounts, sidecar, volumes};
use super::request::{InjectionRequest, Usual};
use super::resources::Demands;
use super::sidecar_spec::{self, SidecarSettings};

/// Proxies that our sidecar comes directly after, because its own traffic goes through them.
const MESH_PROXIES: [&str; 2] = ["istio-proxy", "linkerd-proxy"];
/// Warnings of an answer: the API server cuts off what is longer than 4 kB.
const MAX_WARNINGS: usize = 10;

/// What to do with a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Injection {
    /// JSON patch (RFC 6902); `None` when everything is there already.
    pub(crate) patch: Option<String>,
    /// Name of the `LaunchToken`.
    pub(crate) launch_token: String,
    /// Sentences for the person who made the pod.
    pub(crate) warnings: Vec<String>,
}

/// What counts of the namespace of a pod.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Surroundings<'a> {
    /// The `LaunchToken` of pods that name none.
    pub(crate) default_launch_token: Option<&'a str>,
    /// Whether a container without a CPU limit is refused there.
    pub(crate) cpu_limit: bool,
}

/// Decides what to inject into `pod`.
pub(crate) fn inject(
    pod: &Pod<'_>,
    surroundings: Surroundings<'_>,
    settings: &SidecarSettings,
) -> Result<Injection, Refusal> {
    let annotations = &pod.metadata.annotations;
    let spec = pod
        .spec
        .as_ref()
        .ok_or_else(|| Refusal::Malformed("the pod has no spec".into()))?;
    bounds::check(pod, spec)?;
    supported(spec, annotations)?;
    let demands = Demands {
        guaranteed: spec.is_guaranteed(),
        cpu_limit: surroundings.cpu_limit,
    };
    let usual = Usual {
        resources: settings.resources.under(demands, &settings.guaranteed_cpu),
        gate: settings.start_gate,
    };
    let request = InjectionRequest::parse(annotations, surroundings.default_launch_token, spec, &usual)?;
    let ours = find_ours(spec)?;

    let mut patch = PatchBuilder::default();
    labels_and_annotations(&mut patch, pod, &request);
    group(&mut patch, spec, request.group);
    volumes::check(&mut patch, &spec.volumes, settings)?;
    let inits = &spec.init_containers;
    let position = ours.unwrap_or_else(|| position(&inits.items));
    tokens(&mut patch, spec, position, &request)?;
    let at = format!("/spec/initContainers/{position}");
    if let Some(present) = ours.and_then(|index| inits.items.get(index)) {
        sidecar::check(&mut patch, &at, present, settings, &request)?;
    } else {
        // Last, so that the indices of the present init containers hold until then.
        patch.list("/spec/initContainers", inits.present);
        patch.add(&at, &sidecar_spec::container(settings, &request));
    }
    Ok(Injection {
        patch: patch.into_json(),
        warnings: warnings(annotations, spec, &request),
        launch_token: request.launch_token,
    })
}

/// First of all init containers, except directly after mesh proxies.
fn position(inits: &[Container<'_>]) -> usize {
    inits
        .iter()
        .rposition(|container| MESH_PROXIES.contains(&&*container.name))
        .map_or(0, |index| index.saturating_add(1))
}

fn supported(spec: &Spec<'_>, annotations: &Annotations<'_>) -> Result<(), Refusal> {
    if spec.host_network {
        return Err(Refusal::HostNetwork);
    }
    if spec.os.name == "windows" || spec.node_selector.os == "windows" {
        return Err(Refusal::Windows);
    }
    let allowed = [ANNOTATION_ALLOW_SHARED_PIDS, ANNOTATION_ALLOW_SHARED_PID];
    if allowed.iter().any(|name| annotations.get(name) == Some("true")) {
        return Ok(());
    }
    for (shared, field) in [
        (spec.host_pid, "spec.hostPID"),
        (spec.share_process_namespace, "spec.shareProcessNamespace"),
    ] {
        if shared {
            return Err(Refusal::SharedPid { field });
        }
    }
    Ok(())
}

/// Where our sidecar is among the init containers; any other container with a reserved name is refused.
fn find_ours(spec: &Spec<'_>) -> Result<Option<usize>, Refusal> {
    let reserved = |container: &&Container<'_>| container.name.starts_with(RESERVED_PREFIX);
    let refuse = |item: String, why: &str| {
        Err(Refusal::ReservedName {
            item,
            why: why.to_owned(),
        })
    };
    if let Some(container) = spec.containers.items.iter().find(reserved) {
        let item = format!("container {}", name(&container.name));
        return refuse(item, "only an init container of AgentWrit has such a name");
    }
    let mut ours = None;
    for (index, container) in spec.init_containers.items.iter().enumerate() {
        let item = || format!("init container {}", name(&container.name));
        if container.name == CONTAINER_NAME {
            if ours.replace(index).is_some() {
                return refuse(item(), "there is another of this name");
            }
        } else if reserved(&container) {
            return refuse(item(), "AgentWrit has no container of this name");
        }
    }
    Ok(ours)
}

fn labels_and_annotations(patch: &mut PatchBuilder, pod: &Pod<'_>, request: &InjectionRequest) {
    let labels = &pod.metadata.labels;
    if labels.injected.as_deref() != Some("true") {
        patch.map("/metadata/labels", labels.present);
        patch.add_key("/metadata/labels", LABEL_INJECTED, &json!("true"));
    }
    if request.from_namespace {
        patch.map("/metadata/annotations", pod.metadata.annotations.present);
        patch.add_key(
            "/metadata/annotations",
            ANNOTATION_LAUNCH_TOKEN,
            &json!(request.launch_token),
        );
    }
}

/// The sidecar can give the token file to this group only as a member, and the application can read it only as one.
fn group(patch: &mut PatchBuilder, spec: &Spec<'_>, group: Option<u32>) {
    let Some(group) = group else { return };
    let security = spec.security.as_ref();
    let groups = security.and_then(|security| security.groups.as_ref());
    if groups.is_some_and(|groups| groups.0.contains(&i64::from(group))) {
        return;
    }
    patch.map("/spec/securityContext", security.is_some());
    patch.list("/spec/securityContext/supplementalGroups", groups.is_some());
    patch.add("/spec/securityContext/supplementalGroups/-", &json!(group));
}

/// Gives the token to the containers that are to have it; the sidecar is at `sidecar` among the init containers.
fn tokens(
    patch: &mut PatchBuilder,
    spec: &Spec<'_>,
    sidecar: usize,
    request: &InjectionRequest,
) -> Result<(), Refusal> {
    for (list, containers) in [
        ("initContainers", &spec.init_containers),
        ("containers", &spec.containers),
    ] {
        for (index, container) in containers.items.iter().enumerate() {
            if container.own.is_some() {
                continue;
            }
            let chosen = request.gives_to(&container.name);
            let has_mount = mounts::token_mount(container, chosen)?;
            // What runs before the sidecar can't have a token yet; it gets one only when it is named.
            let too_early = list == "initContainers" && index < sidecar && request.containers.is_none();
            if has_mount || (chosen && !too_early) {
                token_in(patch, &format!("/spec/{list}/{index}"), container, has_mount, request)?;
            }
        }
    }
    Ok(())
}

fn token_in(
    patch: &mut PatchBuilder,
    at: &str,
    container: &Container<'_>,
    has_mount: bool,
    request: &InjectionRequest,
) -> Result<(), Refusal> {
    let taken = container.mounts.as_ref().and_then(|noted| noted.over_token.as_ref());
    if let Some(mount) = taken {
        return Err(mounts::mount_taken(container, mount, TOKEN_DIR));
    }
    if !has_mount {
        patch.list(&format!("{at}/volumeMounts"), container.mount_count.is_some());
        patch.add(&format!("{at}/volumeMounts/-"), &sidecar_spec::token_mount());
    }
    let mut present = container.env.count.is_some();
    for (missing, variable) in [
        (!container.env.token_file, sidecar_spec::token_file_variable()),
        (
            request.endpoint && !container.env.endpoint,
            sidecar_spec::endpoint_variable(),
        ),
    ] {
        if missing {
            patch.list(&format!("{at}/env"), present);
            present = true;
            patch.add(&format!("{at}/env/-"), &variable);
        }
    }
    Ok(())
}

fn warnings(annotations: &Annotations<'_>, spec: &Spec<'_>, request: &InjectionRequest) -> Vec<String> {
    let unknown = annotations.unknown().iter().map(|key| {
        let key = name(key);
        format!("annotation {key} has no meaning on a pod in this version of AgentWrit and is ignored")
    });
    let former = annotations.get(ANNOTATION_ALLOW_SHARED_PID).map(|_| {
        format!("annotation {ANNOTATION_ALLOW_SHARED_PID} is now called {ANNOTATION_ALLOW_SHARED_PIDS}; rename it")
    });
    let containers = &spec.containers.items;
    let open = request.endpoint && containers.iter().any(|container| !request.gives_to(&container.name));
    let open = open.then(|| {
        format!(
            "annotation {ANNOTATION_CONTAINERS} limits who has the token file, but {ANNOTATION_ENDPOINT}: \"on\" lets every \
             container of the pod ask the endpoint for the token"
        )
    });
    let ports = containers.iter().flat_map(|container| {
        let declared = [
            (container.ports.health, HEALTH_PORT),
            (container.ports.endpoint && request.endpoint, ENDPOINT_PORT),
        ];
        declared.into_iter().filter(|(declared, _)| *declared).map(|(_, port)| {
            let container = name(&container.name);
            format!("container {container} declares port {port}, which the AgentWrit sidecar listens on")
        })
    });
    unknown
        .chain(former)
        .chain(open)
        .chain(ports)
        .take(MAX_WARNINGS)
        .collect()
}

#[cfg(test)]
pub(super) mod tests;
