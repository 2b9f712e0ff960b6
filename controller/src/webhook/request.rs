//! What a pod asks for by its annotations: parsed once, refused with a sentence.

use std::collections::{BTreeMap, BTreeSet};

use agentwrit_protocol::inject::{
    ANNOTATION_CONTAINERS, ANNOTATION_DEFAULT_LAUNCH_TOKEN, ANNOTATION_ENDPOINT, ANNOTATION_LAUNCH_TOKEN,
    ANNOTATION_SCOPES, ANNOTATION_START_GATE, ANNOTATION_TTL_SECONDS, CONTAINER_NAME, MIN_TTL_SECONDS,
};
use agentwrit_protocol::scope::MAX_SCOPE_BYTES;
use agentwrit_protocol::{Scope, ScopeError};
use k8s_openapi::api::core::v1::PodSpec;

use super::refusal::Refusal;
use crate::config::is_dns_label;

/// Longest life that `ttl-seconds` may ask for, as `maxTTLSeconds`.
const MAX_TTL_SECONDS: i64 = 86_400;
const MAX_SCOPES: usize = 64;

/// What a pod asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InjectionRequest {
    /// Name of the `LaunchToken`.
    pub launch_token: String,
    /// Whether the name came from the namespace's annotation.
    pub from_namespace: bool,
    /// The scopes to ask for, as a comma list; `None` for all.
    pub scopes: Option<String>,
    /// The life to ask for, seconds; `None` for the longest.
    pub ttl_seconds: Option<i64>,
    /// The containers that get the token; `None` for all.
    pub containers: Option<BTreeSet<String>>,
    /// Whether the localhost endpoint is open.
    pub endpoint: bool,
}

type Annotations = BTreeMap<String, String>;

impl InjectionRequest {
    /// Reads the annotations of a pod and of its namespace.
    ///
    /// # Errors
    /// Names the annotation, what is wrong with its value, and what would be right.
    pub fn parse(pod: &Annotations, namespace: &Annotations, spec: &PodSpec) -> Result<Self, Refusal> {
        let (launch_token, from_namespace) = launch_token(pod, namespace)?;
        match value(pod, ANNOTATION_START_GATE) {
            None | Some("probe") => {}
            Some(other) => {
                return Err(Refusal::annotation(
                    ANNOTATION_START_GATE,
                    other,
                    "must be \"probe\", the only start gate of this version",
                ));
            }
        }
        Ok(Self {
            launch_token,
            from_namespace,
            scopes: value(pod, ANNOTATION_SCOPES).map(scopes).transpose()?,
            ttl_seconds: value(pod, ANNOTATION_TTL_SECONDS).map(ttl_seconds).transpose()?,
            containers: value(pod, ANNOTATION_CONTAINERS)
                .map(|text| containers(text, spec))
                .transpose()?,
            endpoint: value(pod, ANNOTATION_ENDPOINT).map_or(Ok(true), endpoint)?,
        })
    }

    /// Whether this container gets the token.
    pub fn gives_to(&self, container: &str) -> bool {
        self.containers.as_ref().is_none_or(|chosen| chosen.contains(container))
    }
}

fn value<'a>(annotations: &'a Annotations, key: &str) -> Option<&'a str> {
    annotations.get(key).map(String::as_str)
}

fn launch_token(pod: &Annotations, namespace: &Annotations) -> Result<(String, bool), Refusal> {
    let (key, name, from_namespace) = match (
        value(pod, ANNOTATION_LAUNCH_TOKEN),
        value(namespace, ANNOTATION_DEFAULT_LAUNCH_TOKEN),
    ) {
        (Some(name), _) => (ANNOTATION_LAUNCH_TOKEN, name, false),
        (None, Some(name)) => (ANNOTATION_DEFAULT_LAUNCH_TOKEN, name, true),
        (None, None) => return Err(Refusal::NoLaunchToken),
    };
    if is_dns_label(name, 52) {
        Ok((name.to_owned(), from_namespace))
    } else {
        Err(Refusal::annotation(
            key,
            name,
            "must be the name of a LaunchToken: a DNS label of at most 52 characters",
        ))
    }
}

fn scopes(text: &str) -> Result<String, Refusal> {
    let refuse = |why: String| Refusal::annotation(ANNOTATION_SCOPES, text, &why);
    let items: Vec<&str> = text.split(',').map(str::trim).collect();
    if items.len() > MAX_SCOPES {
        return Err(refuse(format!("lists more than {MAX_SCOPES} scopes")));
    }
    let mut seen = BTreeSet::new();
    for item in &items {
        let parsed: Result<Scope, ScopeError> = item.parse();
        let well_formed = parsed
            .as_ref()
            .is_ok_and(|_| !item.contains(char::is_whitespace) && !item.contains('|'));
        if !well_formed {
            return Err(refuse(format!(
                "must be a comma list of scopes of the form action:resource:identifier, such as read:orders:*; {item:?} is none"
            )));
        }
        if item.len() > MAX_SCOPE_BYTES {
            return Err(refuse(format!("holds a scope of more than {MAX_SCOPE_BYTES} bytes")));
        }
        if parsed.is_ok_and(|scope| scope.is_reserved()) {
            return Err(refuse(format!(
                "holds {item:?}: scopes beginning with admin: or app: can't be granted to agents"
            )));
        }
        if !seen.insert(*item) {
            return Err(refuse(format!("lists {item:?} twice")));
        }
    }
    Ok(items.join(","))
}

fn ttl_seconds(text: &str) -> Result<i64, Refusal> {
    text.parse::<i64>()
        .ok()
        .filter(|seconds| (MIN_TTL_SECONDS..=MAX_TTL_SECONDS).contains(seconds))
        .ok_or_else(|| {
            Refusal::annotation(
                ANNOTATION_TTL_SECONDS,
                text,
                &format!("must be a whole number of seconds between {MIN_TTL_SECONDS} and {MAX_TTL_SECONDS}"),
            )
        })
}

fn containers(text: &str, spec: &PodSpec) -> Result<BTreeSet<String>, Refusal> {
    let refuse = |why: String| Refusal::annotation(ANNOTATION_CONTAINERS, text, &why);
    let known: BTreeSet<&str> = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
        .map(|container| container.name.as_str())
        .filter(|name| *name != CONTAINER_NAME)
        .collect();
    let mut chosen = BTreeSet::new();
    for name in text.split(',').map(str::trim) {
        if !known.contains(name) {
            let known: Vec<&str> = known.into_iter().collect();
            return Err(refuse(format!(
                "names {name:?}, which is no container of this pod; its containers are {}",
                known.join(", ")
            )));
        }
        if !chosen.insert(name.to_owned()) {
            return Err(refuse(format!("names {name:?} twice")));
        }
    }
    Ok(chosen)
}

fn endpoint(text: &str) -> Result<bool, Refusal> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        other => Err(Refusal::annotation(
            ANNOTATION_ENDPOINT,
            other,
            "must be \"on\" or \"off\"",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Container;

    fn spec() -> PodSpec {
        let container = |name: &str| Container {
            name: name.into(),
            ..Container::default()
        };
        PodSpec {
            init_containers: Some(vec![container("prepare")]),
            containers: vec![container("app"), container("log")],
            ..PodSpec::default()
        }
    }

    fn parse(pod: &[(&str, &str)], namespace: &[(&str, &str)]) -> Result<InjectionRequest, Refusal> {
        let map = |items: &[(&str, &str)]| {
            items
                .iter()
                .map(|(key, value)| (format!("agentwrit.io/{key}"), (*value).to_owned()))
                .collect()
        };
        InjectionRequest::parse(&map(pod), &map(namespace), &spec())
    }

    #[test]
    fn the_pods_own_annotation_comes_first() {
        let both = parse(&[("launch-token", "a")], &[("default-launch-token", "b")]).unwrap();
        assert_eq!((both.launch_token.as_str(), both.from_namespace), ("a", false));
        let inherited = parse(&[], &[("default-launch-token", "b")]).unwrap();
        assert_eq!((inherited.launch_token.as_str(), inherited.from_namespace), ("b", true));
        assert_eq!(parse(&[], &[]), Err(Refusal::NoLaunchToken));
    }

    #[test]
    fn everything_that_may_be_asked_for() {
        let request = parse(
            &[
                ("launch-token", "reader"),
                ("scopes", "read:orders:1, read:orders:a:b"),
                ("ttl-seconds", "10"),
                ("containers", "app, prepare"),
                ("endpoint", "off"),
                ("start-gate", "probe"),
            ],
            &[],
        )
        .unwrap();
        assert_eq!(request.scopes.as_deref(), Some("read:orders:1,read:orders:a:b"));
        assert_eq!(request.ttl_seconds, Some(10));
        assert!(!request.endpoint);
        assert!(request.gives_to("app") && request.gives_to("prepare") && !request.gives_to("log"));
    }

    #[test]
    fn every_bad_value_is_refused_with_the_annotations_name_and_what_would_be_right() {
        let table = [
            ("launch-token", "Reader", "DNS label"),
            ("launch-token", "", "DNS label"),
            ("scopes", "read:orders", "action:resource:identifier"),
            ("scopes", "", "action:resource:identifier"),
            ("scopes", "read:orders:1,,", "action:resource:identifier"),
            ("scopes", "read:orders:a b", "action:resource:identifier"),
            ("scopes", "admin:launch-tokens:*", "admin:"),
            ("scopes", "read:a:b,read:a:b", "twice"),
            ("ttl-seconds", "9", "between 10 and 86400"),
            ("ttl-seconds", "5m", "between 10 and 86400"),
            ("ttl-seconds", "86401", "between 10 and 86400"),
            ("containers", "web", "app, log, prepare"),
            ("containers", "", "app, log, prepare"),
            ("containers", "app,app", "twice"),
            ("containers", "agentwrit-sidecar", "no container of this pod"),
            ("endpoint", "no", "\"off\""),
            ("start-gate", "hook", "\"probe\""),
        ];
        for (key, value, part) in table {
            let mut annotations = vec![(key, value)];
            if key != "launch-token" {
                annotations.push(("launch-token", "reader"));
            }
            let sentence = parse(&annotations, &[]).unwrap_err().to_string();
            assert!(sentence.contains(&format!("agentwrit.io/{key}")), "{sentence}");
            assert!(sentence.contains(part), "{sentence}");
        }
    }
}
