//! CPU and memory of the sidecar: the installation's, or what a pod asks for, within bounds.

use std::str::FromStr;

use agentwrit_protocol::inject::{
    ANNOTATION_SIDECAR_CPU_LIMIT, ANNOTATION_SIDECAR_CPU_REQUEST, ANNOTATION_SIDECAR_MEMORY_LIMIT,
    ANNOTATION_SIDECAR_MEMORY_REQUEST,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::annotations::Annotations;
use super::quantity::Quantity;
use super::refusal::{Refusal, quoted};

/// Says that there is no limit.
const NONE: &str = "none";

/// A sidecar's resources unless the installation sets others: the default of the chart's value `sidecar.resources`.
///
/// Its start costs 65 ms of CPU, the runtime's part included: with 50m the token came after 1.1 s, with 100m after
/// 0.4 s, before the kubelet looks again (docs/performance.md). The memory is four times what it uses.
pub(crate) const DEFAULT: &str =
    r#"{"requests": {"cpu": "100m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "16Mi"}}"#;

/// One of the four quantities.
#[derive(Debug, PartialEq, Eq)]
struct Field {
    /// In `sidecar.resources`.
    name: &'static str,
    annotation: &'static str,
    least: &'static str,
    most: &'static str,
    /// Whether it may be `none`.
    optional: bool,
}

const CPU_REQUEST: Field = Field {
    name: "requests.cpu",
    annotation: ANNOTATION_SIDECAR_CPU_REQUEST,
    least: "10m",
    most: "2",
    optional: false,
};
const CPU_LIMIT: Field = Field {
    name: "limits.cpu",
    annotation: ANNOTATION_SIDECAR_CPU_LIMIT,
    least: "10m",
    most: "2",
    optional: true,
};
/// What it uses when nothing happens.
const MEMORY_REQUEST: Field = Field {
    name: "requests.memory",
    annotation: ANNOTATION_SIDECAR_MEMORY_REQUEST,
    least: "4Mi",
    most: "1Gi",
    optional: false,
};
/// The least that the sidecar is tested with (`tests/attack`).
const MEMORY_LIMIT: Field = Field {
    name: "limits.memory",
    annotation: ANNOTATION_SIDECAR_MEMORY_LIMIT,
    least: "16Mi",
    most: "1Gi",
    optional: false,
};

impl Field {
    /// Reads its value; what would be right when it can't be that.
    fn read(&self, text: &str) -> Result<Option<Quantity>, String> {
        if self.optional && text == NONE {
            return Ok(None);
        }
        let within = |quantity: &Quantity| {
            Quantity::parse(self.least).is_some_and(|least| *quantity >= least)
                && Quantity::parse(self.most).is_some_and(|most| *quantity <= most)
        };
        let found = Quantity::parse(text).filter(within);
        found.map(Some).ok_or_else(|| self.right())
    }

    fn right(&self) -> String {
        let none = if self.optional { ", or \"none\"" } else { "" };
        let (least, most) = (self.least, self.most);
        format!("must be a Kubernetes quantity between {least} and {most}{none}")
    }
}

/// Request and limit of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pair {
    request: Quantity,
    limit: Option<Quantity>,
}

impl Pair {
    fn is_ordered(&self) -> bool {
        self.limit.as_ref().is_none_or(|limit| self.request <= *limit)
    }

    /// This pair, with what the annotations of a pod say. What they don't say follows what they say.
    fn with(&self, annotations: &Annotations<'_>, request: &Field, limit: &Field) -> Result<Self, Refusal> {
        let wanted = |field: &Field| {
            let text = annotations.get(field.annotation);
            let read = text.map(|text| {
                let read = field.read(text);
                read.map_err(|right| Refusal::annotation(field.annotation, text, &right))
            });
            read.transpose()
        };
        let (wanted_request, wanted_limit) = (wanted(request)?, wanted(limit)?);
        let mut pair = Self {
            request: wanted_request.clone().flatten().unwrap_or_else(|| self.request.clone()),
            limit: wanted_limit.clone().unwrap_or_else(|| self.limit.clone()),
        };
        if pair.is_ordered() {
            return Ok(pair);
        }
        match (wanted_request, &pair.limit) {
            (Some(Some(request_there)), Some(limit_there)) if wanted_limit.is_some() => {
                let right = format!(
                    "must be at most the limit, the annotation {}: {}",
                    limit.annotation,
                    quoted(limit_there.as_str())
                );
                return Err(Refusal::annotation(request.annotation, request_there.as_str(), &right));
            }
            (Some(Some(request)), _) => pair.limit = Some(request),
            (_, Some(limit)) => pair.request = limit.clone(),
            (_, None) => {}
        }
        Ok(pair)
    }
}

/// CPU and memory of a sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    cpu: Pair,
    memory: Pair,
}

impl Resources {
    /// These, with what the annotations of a pod say.
    ///
    /// The error names the annotation, its value and the bounds.
    pub(crate) fn with(&self, annotations: &Annotations<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            cpu: self.cpu.with(annotations, &CPU_REQUEST, &CPU_LIMIT)?,
            memory: self.memory.with(annotations, &MEMORY_REQUEST, &MEMORY_LIMIT)?,
        })
    }

    /// As a container has them.
    pub(crate) fn to_json(&self) -> Value {
        let mut resources = json!({
            "requests": {"cpu": self.cpu.request.as_str(), "memory": self.memory.request.as_str()},
            "limits": {},
        });
        for (name, pair) in [("cpu", &self.cpu), ("memory", &self.memory)] {
            if let (Some(limit), Some(limits)) =
                (&pair.limit, resources.get_mut("limits").and_then(Value::as_object_mut))
            {
                limits.insert(name.to_owned(), json!(limit.as_str()));
            }
        }
        resources
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    requests: Row,
    #[serde(default)]
    limits: Row,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    cpu: Option<Value>,
    memory: Option<Value>,
}

impl FromStr for Resources {
    type Err = String;

    /// Reads `resources` of a container, in JSON, with the two requests, the limit of memory, and that of CPU if there is one.
    fn from_str(text: &str) -> Result<Self, String> {
        let written: Written =
            serde_json::from_str(text).map_err(|error| format!("must be JSON such as {DEFAULT}: {error}"))?;
        let read = |field: &Field, value: Option<Value>| {
            let text = match value {
                None if field.optional => return Ok(None),
                None => return Err(format!("{} is missing; it {}", field.name, field.right())),
                Some(Value::String(text)) => text,
                Some(other) => other.to_string(),
            };
            let read = field.read(&text);
            read.map_err(|right| format!("{} is {}; it {right}", field.name, quoted(&text)))
        };
        let pair = |request: (&Field, Option<Value>), limit: (&Field, Option<Value>)| {
            let (what, most) = (request.0.name, limit.0.name);
            let required = |field: &Field| format!("{} is missing; it {}", field.name, field.right());
            let pair = Pair {
                request: read(request.0, request.1)?.ok_or_else(|| required(request.0))?,
                limit: read(limit.0, limit.1)?,
            };
            if !pair.is_ordered() {
                let found = quoted(pair.request.as_str());
                return Err(format!("{what} is {found}; it must be at most {most}"));
            }
            Ok(pair)
        };
        let Written { requests, limits } = written;
        Ok(Self {
            cpu: pair((&CPU_REQUEST, requests.cpu), (&CPU_LIMIT, limits.cpu))?,
            memory: pair((&MEMORY_REQUEST, requests.memory), (&MEMORY_LIMIT, limits.memory))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::json::read;

    fn default() -> Resources {
        DEFAULT.parse().unwrap()
    }

    /// What a pod with these annotations gets, as request/limit of CPU and of memory.
    fn given(base: &Resources, annotations: &[(&str, &str)]) -> Result<String, String> {
        let members = annotations
            .iter()
            .map(|(key, value)| (format!("agentwrit.io/sidecar-{key}"), json!(value)));
        let text = Value::Object(members.collect()).to_string();
        let resources = base
            .with(&read(text.as_bytes()).unwrap())
            .map_err(|refusal| refusal.to_string())?;
        let json = resources.to_json();
        let of = |name: &str| {
            let at = |row: &str| json[row][name].as_str().unwrap_or("none").to_owned();
            format!("{}/{}", at("requests"), at("limits"))
        };
        Ok(format!("{} {}", of("cpu"), of("memory")))
    }

    #[test]
    fn a_pod_gets_the_installations_unless_it_asks_for_others() {
        let base = default();
        for (annotations, right) in [
            (vec![], "100m/100m 16Mi/16Mi"),
            (vec![("cpu-request", "10m")], "10m/100m 16Mi/16Mi"),
            (vec![("cpu-request", "500m")], "500m/500m 16Mi/16Mi"),
            (vec![("cpu-limit", "2")], "100m/2 16Mi/16Mi"),
            (vec![("cpu-limit", "50m")], "50m/50m 16Mi/16Mi"),
            (vec![("cpu-limit", "none")], "100m/none 16Mi/16Mi"),
            (vec![("cpu-request", "2"), ("cpu-limit", "none")], "2/none 16Mi/16Mi"),
            (vec![("memory-request", "4Mi")], "100m/100m 4Mi/16Mi"),
            (vec![("memory-request", "128Mi")], "100m/100m 128Mi/128Mi"),
            (vec![("memory-limit", "1Gi")], "100m/100m 16Mi/1Gi"),
            (
                vec![
                    ("memory-request", "32Mi"),
                    ("memory-limit", "64M"),
                    ("cpu-request", "0.02"),
                    ("cpu-limit", "20m"),
                ],
                "0.02/20m 32Mi/64M",
            ),
        ] {
            assert_eq!(given(&base, &annotations).as_deref(), Ok(right), "{annotations:?}");
        }
        let unlimited: Resources = r#"{"requests": {"cpu": 0.5, "memory": "64Mi"}, "limits": {"memory": "128Mi"}}"#
            .parse()
            .unwrap();
        assert_eq!(given(&unlimited, &[]).as_deref(), Ok("0.5/none 64Mi/128Mi"));
        let narrower = [("memory-limit", "32Mi"), ("cpu-limit", "1")];
        assert_eq!(given(&unlimited, &narrower).as_deref(), Ok("0.5/1 32Mi/32Mi"));
    }

    #[test]
    fn a_bad_value_is_refused_with_the_annotation_and_the_bounds() {
        let cpu = "must be a Kubernetes quantity between 10m and 2";
        for (key, values, right) in [
            ("cpu-request", vec!["", "9m", "2001m", "0", "-1", "none", "fast"], cpu),
            (
                "cpu-limit",
                vec!["", "9m", "3", "None"],
                "between 10m and 2, or \"none\"",
            ),
            (
                "memory-request",
                vec!["4095Ki", "1025Mi", "16", "16mi", "none"],
                "between 4Mi and 1Gi",
            ),
            (
                "memory-limit",
                vec!["15Mi", "2Gi", "16MB", "99999999999Ei"],
                "between 16Mi and 1Gi",
            ),
        ] {
            for value in values {
                let sentence = given(&default(), &[(key, value)]).unwrap_err();
                let start = format!("annotation agentwrit.io/sidecar-{key}: {value:?} is not usable; it must be");
                assert!(sentence.starts_with(&start) && sentence.contains(right), "{sentence}");
            }
        }
        let crossed = given(&default(), &[("cpu-request", "200m"), ("cpu-limit", "0.1")]).unwrap_err();
        let says = "annotation agentwrit.io/sidecar-cpu-request: \"200m\" is not usable; it must be at most the limit, the annotation \
                    agentwrit.io/sidecar-cpu-limit: \"0.1\"";
        assert_eq!(crossed, says);
    }

    #[test]
    fn the_installations_are_checked_the_same_way() {
        for (text, right) in [
            ("", "must be JSON such as"),
            (
                "{}",
                "requests.cpu is missing; it must be a Kubernetes quantity between 10m and 2",
            ),
            (
                r#"{"requests": {"cpu": "100m", "memory": "16Mi"}}"#,
                "limits.memory is missing; it must be a Kubernetes quantity between 16Mi and 1Gi",
            ),
            (
                r#"{"requests": {"cpu": 3, "memory": "16Mi"}, "limits": {"memory": "16Mi"}}"#,
                "requests.cpu is \"3\"; it must be a Kubernetes quantity between 10m and 2",
            ),
            (
                r#"{"requests": {"cpu": 1, "memory": "32Mi"}, "limits": {"memory": "16Mi"}}"#,
                "requests.memory is \"32Mi\"; it must be at most limits.memory",
            ),
            (
                r#"{"requests": {"cpu": 1, "memory": "16Mi", "disk": 1}, "limits": {"memory": "16Mi"}}"#,
                "unknown field `disk`",
            ),
        ] {
            let sentence = Resources::from_str(text).unwrap_err();
            assert!(sentence.contains(right), "{sentence}");
        }
    }
}
