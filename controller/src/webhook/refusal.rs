//! Why a pod is refused at admission: each with a sentence that names the field and what would be right.

use agentwrit_protocol::inject::{
    ANNOTATION_ALLOW_SHARED_PID, ANNOTATION_DEFAULT_LAUNCH_TOKEN, ANNOTATION_LAUNCH_TOKEN, CONTAINER_NAME, LABEL_INJECT,
};

/// Why a pod is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Neither the pod nor its namespace names a `LaunchToken`.
    #[error(
        "the pod asks for an AgentWrit token but names no LaunchToken: set the annotation {ANNOTATION_LAUNCH_TOKEN} on \
         the pod, or {ANNOTATION_DEFAULT_LAUNCH_TOKEN} on its namespace, or the label {LABEL_INJECT}=false on the pod"
    )]
    NoLaunchToken,
    /// An annotation's value is out of its grammar.
    #[error("annotation {key}: {value:?} is not usable; it {why}")]
    Annotation {
        /// The annotation.
        key: &'static str,
        /// Its value, shortened.
        value: String,
        /// What would be right.
        why: String,
    },
    /// The node's network: the token endpoint would be open to every process of the node.
    #[error(
        "spec.hostNetwork: true is not supported: the token endpoint on 127.0.0.1 would be the node's own; set it to \
         false, or the label {LABEL_INJECT}=false on the pod"
    )]
    HostNetwork,
    /// There is no sidecar for Windows.
    #[error(
        "spec.os.name or the node selector says windows, but the sidecar runs on Linux only; set the label {LABEL_INJECT}=false on the pod"
    )]
    Windows,
    /// Other processes could read the sidecar's memory.
    #[error(
        "{field}: true lets other processes see the sidecar's; set it to false, or accept that with the annotation \
         {ANNOTATION_ALLOW_SHARED_PID}: \"true\""
    )]
    SharedPid {
        /// The field of the pod's spec.
        field: &'static str,
    },
    /// A reserved name is used for something that isn't ours.
    #[error(
        "{item}: names beginning with agentwrit- are reserved for injected items, and this one differs from what is injected ({difference})"
    )]
    ReservedName {
        /// Which item.
        item: String,
        /// What differs.
        difference: String,
    },
    /// Something else is mounted where the token goes.
    #[error(
        "container {container} mounts volume {volume} at {path}, where the token's volume goes; mount it elsewhere"
    )]
    MountTaken {
        /// The container.
        container: String,
        /// The volume.
        volume: String,
        /// The path.
        path: &'static str,
    },
    /// The sidecar is there, but not all that belongs to it.
    #[error(
        "the pod has the container {CONTAINER_NAME} but not {missing}, which is injected with it; remove all injected items from the manifest"
    )]
    Incomplete {
        /// What is missing.
        missing: String,
    },
    /// The object isn't a pod.
    #[error("the admission request is not usable: {0}")]
    Malformed(String),
    /// The namespace isn't known yet.
    #[error("namespace {0} can't be read at present; try again")]
    NamespaceUnknown(String),
}

impl Refusal {
    /// A refusal of an annotation's value.
    pub fn annotation(key: &'static str, value: &str, why: &str) -> Self {
        Self::Annotation {
            key,
            value: value.chars().take(80).collect(),
            why: why.to_owned(),
        }
    }

    /// A word for the metric.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::NoLaunchToken => "no_launch_token",
            Self::Annotation { .. } => "annotation",
            Self::HostNetwork => "host_network",
            Self::Windows => "windows",
            Self::SharedPid { .. } => "shared_pid",
            Self::ReservedName { .. } => "reserved_name",
            Self::MountTaken { .. } => "mount_taken",
            Self::Incomplete { .. } => "incomplete",
            Self::Malformed(_) => "malformed",
            Self::NamespaceUnknown(_) => "namespace_unknown",
        }
    }
}
