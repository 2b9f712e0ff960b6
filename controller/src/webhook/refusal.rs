//! Why a pod is refused at admission: each with a sentence that names the field and what would be right.

use agentwrit_protocol::inject::{
    ANNOTATION_ALLOW_SHARED_PIDS, ANNOTATION_DEFAULT_LAUNCH_TOKEN, ANNOTATION_LAUNCH_TOKEN, INJECT_OFF, INJECT_ON,
    LABEL_INJECT,
};

/// Characters of the request's text that a message repeats at most.
const MAX_QUOTED_CHARS: usize = 80;

/// Why a pod is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Neither the pod nor its namespace names a `LaunchToken`.
    #[error(
        "the pod asks for an AgentWrit token but names no LaunchToken: set the annotation {ANNOTATION_LAUNCH_TOKEN} on \
         the pod, or {ANNOTATION_DEFAULT_LAUNCH_TOKEN} on its namespace, or the label {LABEL_INJECT}=false on the pod"
    )]
    NoLaunchToken,
    /// An annotation's value is out of its grammar.
    #[error("annotation {key}: {value} is not usable; it {why}")]
    Annotation {
        key: &'static str,
        /// Its value, quoted and cut.
        value: String,
        /// What would be right.
        why: String,
    },
    /// The label of a pod or namespace has a value that we don't know.
    #[error(
        "the label {LABEL_INJECT} of {owner} is {value}; it must be one of \"{}\" to inject, or of \"{}\" not to",
        INJECT_ON.join("\", \""),
        INJECT_OFF.join("\", \"")
    )]
    Label {
        /// Whose label it is.
        owner: String,
        /// Its value, quoted and cut.
        value: String,
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
         {ANNOTATION_ALLOW_SHARED_PIDS}: \"true\""
    )]
    SharedPid {
        /// The field of the pod's spec.
        field: &'static str,
    },
    /// More of something than is read.
    #[error("{field} has {count} items; AgentWrit reads at most {most}: {instead}")]
    TooMany {
        field: String,
        /// How many items it has.
        count: usize,
        /// How many it may have.
        most: usize,
        instead: String,
    },
    /// A reserved name is used for something that isn't ours.
    #[error("{item}: names beginning with agentwrit- are reserved for what AgentWrit injects, and {why}; rename it")]
    ReservedName {
        item: String,
        /// How it is known not to be ours.
        why: String,
    },
    /// An injected item is there, and would not work as it is.
    #[error(
        "{item}: {field} is {found}; for AgentWrit to work it must be {right}. Correct it, or remove what AgentWrit injects \
         from the manifest: it is put in again"
    )]
    Contradiction {
        item: String,
        field: String,
        /// Its value, quoted and cut.
        found: String,
        /// What would be right.
        right: String,
    },
    /// A container mounts one of our volumes that it may not have.
    #[error("container {container} mounts volume {volume}, {why}; remove that mount")]
    ForeignMount {
        container: String,
        volume: String,
        /// Why it may not.
        why: &'static str,
    },
    /// Something else is mounted where one of our volumes goes.
    #[error(
        "container {container} mounts volume {volume} at {path}, which is at or below {directory}, where AgentWrit's own \
         volume goes; mount it elsewhere"
    )]
    MountTaken {
        container: String,
        volume: String,
        /// The path, quoted and cut.
        path: String,
        directory: &'static str,
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
    pub(crate) fn annotation(key: &'static str, value: &str, why: &str) -> Self {
        Self::Annotation {
            key,
            value: quoted(value),
            why: why.to_owned(),
        }
    }

    /// Whether it may concern a real pod of this cluster: one of an existing namespace.
    pub(crate) const fn is_plausible(&self) -> bool {
        !matches!(self, Self::Malformed(_) | Self::NamespaceUnknown(_))
    }

    /// A word for the metric.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::NoLaunchToken => "no_launch_token",
            Self::Annotation { .. } => "annotation",
            Self::Label { .. } => "label",
            Self::HostNetwork => "host_network",
            Self::Windows => "windows",
            Self::SharedPid { .. } => "shared_pid",
            Self::TooMany { .. } => "too_many",
            Self::ReservedName { .. } => "reserved_name",
            Self::Contradiction { .. } => "contradiction",
            Self::ForeignMount { .. } => "foreign_mount",
            Self::MountTaken { .. } => "mount_taken",
            Self::Malformed(_) => "malformed",
            Self::NamespaceUnknown(_) => "namespace_unknown",
        }
    }
}

/// Text of the request for a message or a log line: quoted, cut, and without control characters.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// A name of the request for a message or a log line: as it is when it has the form of a Kubernetes name, else
/// [`quoted`].
pub(crate) fn name(text: &str) -> String {
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'/');
    if (1..=MAX_QUOTED_CHARS).contains(&text.len()) && text.bytes().all(usual) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_on_the_page_about_refusals() {
        let page = include_str!("../../../docs/refusals.md");
        let source = include_str!("refusal.rs");
        let kinds = source.split_once("const fn kind").unwrap().1;
        let kinds = kinds.split_once("/// Text of the request").unwrap().0;
        let words: Vec<&str> = kinds.split('"').skip(1).step_by(2).collect();
        assert!(words.contains(&"no_launch_token") && words.len() > 10, "{words:?}");
        for kind in words {
            assert!(page.contains(&format!("| `{kind}` |")), "{kind}");
        }
    }

    #[test]
    fn a_strangers_text_is_cut_and_has_no_control_characters() {
        assert_eq!(quoted("a b"), "\"a b\"");
        assert_eq!(quoted("a\nb\u{1b}[31m\u{202e}"), r#""a\nb\u{1b}[31m\u{202e}""#);
        assert_eq!(quoted(&"é".repeat(81)), format!("\"{}\"…", "é".repeat(80)));
        assert!(quoted(&"\u{301}".repeat(1 << 20)).len() < 1000);
        assert_eq!(name("agentwrit.io/x-1"), "agentwrit.io/x-1");
        assert_eq!(name(""), "\"\"");
        assert_eq!(name("two words"), "\"two words\"");
        assert_eq!(name(&"a".repeat(81)), format!("\"{}\"…", "a".repeat(80)));
    }
}
