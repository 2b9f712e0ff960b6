//! What a pod asks for by its annotations: parsed once, refused with a sentence.

use std::collections::BTreeSet;
use std::str::FromStr;

use agentwrit_protocol::dns_label::{MAX_RESOURCE_NAME_BYTES, is_dns_label};
use agentwrit_protocol::inject::{
    ANNOTATION_CONTAINERS, ANNOTATION_DEFAULT_LAUNCH_TOKEN, ANNOTATION_ENDPOINT, ANNOTATION_LAUNCH_TOKEN,
    ANNOTATION_SCOPES, ANNOTATION_START_GATE, ANNOTATION_TOKEN_FILE_GID, ANNOTATION_TTL_SECONDS, CONTAINER_NAME,
    MIN_TTL_SECONDS, TOKEN_FILE_GIDS,
};
use agentwrit_protocol::scope::{MAX_SCOPE_BYTES, MAX_SCOPES};
use agentwrit_protocol::ttl::{MAX_TTL_SECONDS, Ttl};
use agentwrit_protocol::{Scope, ScopeError};

use super::annotations::Annotations;
use super::pod::Spec;
use super::refusal::{Refusal, name, quoted};
use super::resources::Resources;
use super::start_gate::StartGate;

/// Container names that a sentence lists at most.
const MAX_LISTED: usize = 10;

/// What a pod asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InjectionRequest {
    /// Name of the `LaunchToken`.
    pub(crate) launch_token: String,
    /// Whether the name came from the namespace's annotation.
    pub(crate) from_namespace: bool,
    /// The scopes to ask for, as a comma list; `None` for all.
    pub(crate) scopes: Option<String>,
    /// The life to ask for; `None` for the longest.
    pub(crate) ttl: Option<Ttl>,
    /// The containers that get the token; `None` for all.
    pub(crate) containers: Option<BTreeSet<String>>,
    /// Whether the localhost endpoint is open: unless it is said, only where all containers get the token.
    pub(crate) endpoint: bool,
    /// CPU and memory of the sidecar.
    pub(crate) resources: Resources,
    /// What the application's start waits for.
    pub(crate) gate: StartGate,
    /// The group that alone may read the token file.
    pub(crate) group: Option<u32>,
}

/// What a pod gets that says nothing of it.
#[derive(Debug)]
pub(crate) struct Usual {
    pub(crate) resources: Resources,
    pub(crate) gate: StartGate,
}

impl InjectionRequest {
    /// Reads the annotations of a pod; `default` is the `LaunchToken` that its namespace names, `usual` what it gets
    /// unless it asks for something else.
    ///
    /// The error names the annotation, what is wrong with its value, and what would be right.
    pub(crate) fn parse(
        pod: &Annotations<'_>,
        default: Option<&str>,
        spec: &Spec<'_>,
        usual: &Usual,
    ) -> Result<Self, Refusal> {
        let (launch_token, from_namespace) = launch_token(pod, default)?;
        let gate = pod.get(ANNOTATION_START_GATE).map(|text| {
            let gate = StartGate::from_str(text);
            gate.map_err(|right| Refusal::annotation(ANNOTATION_START_GATE, text, &right))
        });
        let containers = pod.get(ANNOTATION_CONTAINERS);
        let containers = containers.map(|text| containers_in(text, spec)).transpose()?;
        // All containers of a pod share 127.0.0.1: open, it would give the token to those that are not named too.
        let endpoint = pod.get(ANNOTATION_ENDPOINT).map(endpoint).transpose()?;
        Ok(Self {
            launch_token,
            from_namespace,
            scopes: pod.get(ANNOTATION_SCOPES).map(scopes).transpose()?,
            ttl: pod.get(ANNOTATION_TTL_SECONDS).map(ttl).transpose()?,
            endpoint: endpoint.unwrap_or(containers.is_none()),
            containers,
            resources: usual.resources.with(pod)?,
            group: pod.get(ANNOTATION_TOKEN_FILE_GID).map(group).transpose()?,
            gate: gate.transpose()?.unwrap_or(usual.gate),
        })
    }

    /// Whether this container gets the token.
    pub(crate) fn gives_to(&self, container: &str) -> bool {
        self.containers.as_ref().is_none_or(|chosen| chosen.contains(container))
    }
}

fn launch_token(pod: &Annotations<'_>, default: Option<&str>) -> Result<(String, bool), Refusal> {
    let (key, name, from_namespace) = match (pod.get(ANNOTATION_LAUNCH_TOKEN), default) {
        (Some(name), _) => (ANNOTATION_LAUNCH_TOKEN, name, false),
        (None, Some(name)) => (ANNOTATION_DEFAULT_LAUNCH_TOKEN, name, true),
        (None, None) => return Err(Refusal::NoLaunchToken),
    };
    if is_dns_label(name, MAX_RESOURCE_NAME_BYTES) {
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
    let mut items = BTreeSet::new();
    let mut list = String::new();
    for item in text.split(',').map(str::trim) {
        if items.len() == MAX_SCOPES {
            return Err(refuse(format!("lists more than {MAX_SCOPES} scopes")));
        }
        if item.len() > MAX_SCOPE_BYTES {
            return Err(refuse(format!("holds a scope of more than {MAX_SCOPE_BYTES} bytes")));
        }
        let parsed: Result<Scope, ScopeError> = item.parse();
        let well_formed = parsed
            .as_ref()
            .is_ok_and(|_| !item.contains(char::is_whitespace) && !item.contains('|'));
        if !well_formed {
            return Err(refuse(format!(
                "must be a comma list of scopes of the form action:resource:identifier, such as read:orders:*; {} is none",
                quoted(item)
            )));
        }
        if parsed.is_ok_and(|scope| scope.is_reserved()) {
            return Err(refuse(format!(
                "holds {}: scopes beginning with admin: or app: can't be granted to agents",
                quoted(item)
            )));
        }
        if !items.insert(item) {
            return Err(refuse(format!("lists {} twice", quoted(item))));
        }
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(item);
    }
    Ok(list)
}

fn ttl(text: &str) -> Result<Ttl, Refusal> {
    text.parse::<i64>()
        .ok()
        .filter(|seconds| (MIN_TTL_SECONDS..=MAX_TTL_SECONDS).contains(seconds))
        .map(Ttl::seconds)
        .ok_or_else(|| {
            Refusal::annotation(
                ANNOTATION_TTL_SECONDS,
                text,
                &format!("must be a whole number of seconds between {MIN_TTL_SECONDS} and {MAX_TTL_SECONDS}"),
            )
        })
}

fn group(text: &str) -> Result<u32, Refusal> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text
        .parse()
        .ok()
        .filter(|number| plain && TOKEN_FILE_GIDS.contains(number));
    number.ok_or_else(|| {
        let (least, most) = (TOKEN_FILE_GIDS.start(), TOKEN_FILE_GIDS.end());
        let right = format!("must be the number of a group between {least} and {most}");
        Refusal::annotation(ANNOTATION_TOKEN_FILE_GID, text, &right)
    })
}

fn containers_in(text: &str, spec: &Spec<'_>) -> Result<BTreeSet<String>, Refusal> {
    let refuse = |why: String| Refusal::annotation(ANNOTATION_CONTAINERS, text, &why);
    let inits = &spec.init_containers.items;
    let known: BTreeSet<&str> = inits
        .iter()
        .chain(&spec.containers.items)
        .map(|container| &*container.name)
        .filter(|name| *name != CONTAINER_NAME)
        .collect();
    let mut chosen = BTreeSet::new();
    for item in text.split(',').map(str::trim) {
        if !known.contains(item) {
            let more = if known.len() > MAX_LISTED { " and others" } else { "" };
            let known: Vec<String> = known.into_iter().take(MAX_LISTED).map(name).collect();
            return Err(refuse(format!(
                "names {}, which is no container of this pod; its containers are {}{more}",
                quoted(item),
                known.join(", ")
            )));
        }
        if !chosen.insert(item.to_owned()) {
            return Err(refuse(format!("names {} twice", quoted(item))));
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
    use crate::webhook::json::read;
    use crate::webhook::resources;
    use serde_json::{Map, Value, json};

    fn parse(pod: &[(&str, &str)], default: Option<&str>) -> Result<InjectionRequest, Refusal> {
        let pairs = pod
            .iter()
            .map(|(key, value)| (format!("agentwrit.io/{key}"), json!(value)));
        let annotations = Value::Object(pairs.collect::<Map<String, Value>>()).to_string();
        let containers = json!({
            "initContainers": [{"name": "prepare"}], "containers": [{"name": "app"}, {"name": "log"}],
        });
        let containers = containers.to_string();
        let spec = read(containers.as_bytes()).unwrap();
        let usual = Usual {
            resources: resources::DEFAULT.parse().unwrap(),
            gate: StartGate::Probe,
        };
        InjectionRequest::parse(&read(annotations.as_bytes()).unwrap(), default, &spec, &usual)
    }

    #[test]
    fn the_pods_own_annotation_comes_first() {
        let both = parse(&[("launch-token", "a")], Some("b")).unwrap();
        assert_eq!((both.launch_token.as_str(), both.from_namespace), ("a", false));
        let inherited = parse(&[], Some("b")).unwrap();
        assert_eq!((inherited.launch_token.as_str(), inherited.from_namespace), ("b", true));
        assert_eq!(parse(&[], None), Err(Refusal::NoLaunchToken));
    }

    #[test]
    fn naming_containers_closes_the_endpoint_unless_it_is_said() {
        for (annotations, open) in [
            (vec![], true),
            (vec![("endpoint", "off")], false),
            (vec![("endpoint", "on")], true),
            (vec![("containers", "app")], false),
            (vec![("containers", "app,log,prepare")], false),
            (vec![("containers", "app"), ("endpoint", "off")], false),
            (vec![("containers", "app"), ("endpoint", "on")], true),
        ] {
            let request = parse(&annotations, Some("common")).unwrap();
            assert_eq!(request.endpoint, open, "{annotations:?}");
        }
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
                ("start-gate", "hook"),
                ("token-file-gid", "2000"),
            ],
            None,
        )
        .unwrap();
        assert_eq!(request.scopes.as_deref(), Some("read:orders:1,read:orders:a:b"));
        assert_eq!(request.ttl, Some(Ttl::seconds(10)));
        assert!(!request.endpoint);
        assert_eq!((request.gate, request.group), (StartGate::Hook, Some(2000)));
        assert!(request.gives_to("app") && request.gives_to("prepare") && !request.gives_to("log"));
    }

    #[test]
    fn a_bad_value_is_refused_with_its_annotation_and_a_way_out() {
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
            ("endpoint", "no", "must be \"on\" or \"off\""),
            ("endpoint", "", "must be \"on\" or \"off\""),
            ("endpoint", "On", "must be \"on\" or \"off\""),
            ("start-gate", "Hook", "must be one of \"probe\", \"hook\", \"none\""),
            ("start-gate", "", "must be one of \"probe\", \"hook\", \"none\""),
            ("token-file-gid", "", "between 1 and 2147483647"),
            ("token-file-gid", "0", "between 1 and 2147483647"),
            ("token-file-gid", "+5", "between 1 and 2147483647"),
            ("token-file-gid", "2147483648", "between 1 and 2147483647"),
            ("token-file-gid", "staff", "between 1 and 2147483647"),
            ("sidecar-memory-limit", "8Mi", "between 16Mi and 1Gi"),
        ];
        for (key, value, part) in table {
            let mut annotations = vec![(key, value)];
            if key != "launch-token" {
                annotations.push(("launch-token", "reader"));
            }
            let sentence = parse(&annotations, None).unwrap_err().to_string();
            assert!(sentence.contains(&format!("agentwrit.io/{key}")), "{sentence}");
            assert!(sentence.contains(part), "{sentence}");
        }
    }
}
