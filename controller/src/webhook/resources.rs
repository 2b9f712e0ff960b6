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
/// The request is what it uses: a node takes as many sidecars as ask for no more than that. A CPU limit would throttle the
/// start, whose 65 ms of CPU are needed at once (docs/performance.md). The memory is four times what it uses.
pub(crate) const DEFAULT: &str = r#"{"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "16Mi"}}"#;

/// The default of [`GuaranteedCpu`]: with 50m the token came after 1.1 s, with 100m after 0.4 s.
pub(crate) const DEFAULT_GUARANTEED_CPU: &str = "100m";

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
    least: "1m",
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

/// The CPU of a sidecar that has to have a limit: request and limit are this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuaranteedCpu(Quantity);

impl FromStr for GuaranteedCpu {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = CPU_LIMIT.read(text).ok().flatten();
        let (least, most) = (CPU_LIMIT.least, CPU_LIMIT.most);
        read.map(Self)
            .ok_or_else(|| format!("must be a Kubernetes quantity between {least} and {most}"))
    }
}

/// What the surroundings of a sidecar ask of its resources.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Demands {
    /// The pod is of class Guaranteed without us, and is to stay so: every container's requests equal its limits.
    pub(crate) guaranteed: bool,
    /// A `ResourceQuota` of the namespace refuses containers without a CPU limit.
    pub(crate) cpu_limit: bool,
}

impl Resources {
    /// These, in a pod that demands more of them.
    pub(crate) fn under(&self, demands: Demands, guaranteed: &GuaranteedCpu) -> Self {
        let mut resources = self.clone();
        let Pair { request, limit } = &mut resources.cpu;
        let is_even = limit.as_ref() == Some(request);
        if (demands.guaranteed && !is_even) || (demands.cpu_limit && limit.is_none()) {
            (*request, *limit) = (guaranteed.0.clone(), Some(guaranteed.0.clone()));
        }
        if demands.guaranteed
            && let Some(limit) = &resources.memory.limit
        {
            resources.memory.request = limit.clone();
        }
        resources
    }

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
mod tests;
