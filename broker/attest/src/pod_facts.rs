//! What the broker reads of a pod. Its author chooses the rest and can make it large: annotations, containers,
//! and the list of managed fields that the API server makes of them.

use std::fmt;
use std::marker::PhantomData;

use agentwrit_protocol::PodUid;
use agentwrit_protocol::inject::{CONTAINER_NAME, ENV_LAUNCH_TOKEN};
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::pod_labels::PodLabels;

/// A pod, as far as the broker looks at it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// `metadata.uid`.
    pub uid: PodUid,
    /// Whether `metadata.deletionTimestamp` is set.
    pub terminating: bool,
    /// `status.phase`.
    pub phase: String,
    /// `spec.serviceAccountName`.
    pub service_account: String,
    /// `spec.nodeName`.
    pub node: Option<String>,
    /// Which LaunchToken the pod's own sidecar asks for.
    pub sidecar: SidecarPolicy,
    /// `metadata.labels`.
    pub labels: PodLabels,
}

/// Which LaunchToken a pod's own sidecar asks for, by the environment of its container. Unlike an annotation, that can't
/// be changed once the pod is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SidecarPolicy {
    /// There is no init container `agentwrit-sidecar` with restartPolicy Always.
    #[default]
    NoSidecar,
    /// It names none.
    Missing,
    /// Its value comes from elsewhere and can't be seen here.
    Unclear,
    /// This one.
    Named(String),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodView {
    metadata: Metadata,
    spec: Spec,
    status: Progress,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    uid: PodUid,
    deletion_timestamp: Option<IgnoredAny>,
    labels: PodLabels,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    service_account_name: String,
    node_name: Option<String>,
    init_containers: Folded<Container>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Progress {
    phase: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    name: String,
    restart_policy: String,
    env: Folded<Variable>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Variable {
    name: String,
    value: String,
    value_from: Option<IgnoredAny>,
}

/// An item of a list of which only what it says about the policy is kept.
trait Says {
    fn says(self) -> Option<SidecarPolicy>;

    /// What two of them say together.
    fn both(first: SidecarPolicy, second: SidecarPolicy) -> SidecarPolicy;
}

impl Says for Container {
    fn says(self) -> Option<SidecarPolicy> {
        let ours = self.name == CONTAINER_NAME && self.restart_policy == "Always";
        ours.then(|| self.env.0.unwrap_or(SidecarPolicy::Missing))
    }

    /// The API server takes no two containers of one name.
    fn both(_: SidecarPolicy, _: SidecarPolicy) -> SidecarPolicy {
        SidecarPolicy::Unclear
    }
}

impl Says for Variable {
    fn says(self) -> Option<SidecarPolicy> {
        if self.name != ENV_LAUNCH_TOKEN {
            return None;
        }
        Some(match (self.value_from, self.value) {
            (Some(_), _) => SidecarPolicy::Unclear,
            (None, value) if value.is_empty() => SidecarPolicy::Missing,
            (None, value) => SidecarPolicy::Named(value),
        })
    }

    /// The kubelet takes the last, and so does the webhook.
    fn both(_: SidecarPolicy, second: SidecarPolicy) -> SidecarPolicy {
        second
    }
}

/// A list, read item by item.
struct Folded<T>(Option<SidecarPolicy>, PhantomData<T>);

impl<T> Default for Folded<T> {
    fn default() -> Self {
        Self(None, PhantomData)
    }
}

impl<'de, T: Says + Deserialize<'de>> Deserialize<'de> for Folded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Says + Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = Folded<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<Folded<T>, E> {
        Ok(Folded::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Folded<T>, A::Error> {
        let mut said = None;
        while let Some(item) = list.next_element::<T>()? {
            said = match (said, item.says()) {
                (Some(first), Some(second)) => Some(T::both(first, second)),
                (one, other) => one.or(other),
            };
        }
        Ok(Folded(said, PhantomData))
    }
}

impl PodFacts {
    /// Reads the JSON of a pod.
    ///
    /// # Errors
    /// When it is not that of a pod.
    pub fn from_json(text: &str) -> serde_json::Result<Self> {
        let pod: PodView = serde_json::from_str(text)?;
        Ok(Self {
            uid: pod.metadata.uid,
            terminating: pod.metadata.deletion_timestamp.is_some(),
            phase: pod.status.phase,
            service_account: pod.spec.service_account_name,
            node: pod.spec.node_name,
            sidecar: pod.spec.init_containers.0.unwrap_or_default(),
            labels: pod.metadata.labels,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_pod_is_read_as_far_as_it_matters() {
        let pod = json!({
            "kind": "Pod",
            "metadata": {
                "name": "orders-1", "uid": "uid-1", "deletionTimestamp": "2026-11-21T09:30:00Z",
                "labels": {"tier": "web"},
                "annotations": {"agentwrit.io/launch-token": "other", "other": "x"},
            },
            "spec": {
                "serviceAccountName": "order-reader", "nodeName": "node-1", "containers": [{"name": "app"}],
                "initContainers": [
                    {"name": "prepare", "env": [{"name": "AGENTWRIT_LAUNCH_TOKEN", "value": "other"}]},
                    {
                        "env": [{"name": "A", "valueFrom": {}}, {"name": "AGENTWRIT_LAUNCH_TOKEN", "value": "reader"}],
                        "name": "agentwrit-sidecar", "restartPolicy": "Always",
                    },
                ],
            },
            "status": {"phase": "Running", "conditions": []},
        });
        let facts = PodFacts {
            uid: "uid-1".into(),
            terminating: true,
            phase: "Running".into(),
            service_account: "order-reader".into(),
            node: Some("node-1".into()),
            sidecar: SidecarPolicy::Named("reader".into()),
            labels: PodLabels::Read([("tier".to_owned(), "web".to_owned())].into()),
        };
        assert_eq!(PodFacts::from_json(&pod.to_string()).unwrap(), facts);
        assert_eq!(PodFacts::from_json("{}").unwrap(), PodFacts::default());
        for bad in [
            "",
            "[",
            "{\"metadata\":5}",
            "{\"metadata\":{\"uid\":5}}",
            "{\"metadata\":{\"labels\":[]}}",
            "{\"spec\":{\"initContainers\":5}}",
            "{\"spec\":{\"initContainers\":[5]}}",
        ] {
            assert!(PodFacts::from_json(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_plain_value_in_our_own_container_names_a_policy() {
        let ours = |env: Value| json!([{"name": "agentwrit-sidecar", "restartPolicy": "Always", "env": env}]);
        let reader = json!({"name": "AGENTWRIT_LAUNCH_TOKEN", "value": "reader"});
        let other = json!({"name": "AGENTWRIT_LAUNCH_TOKEN", "value": "other"});
        let from = json!({"name": "AGENTWRIT_LAUNCH_TOKEN", "valueFrom": {"fieldRef": {"fieldPath": "x"}}});
        let table = [
            (json!([]), SidecarPolicy::NoSidecar),
            (json!(null), SidecarPolicy::NoSidecar),
            (
                json!([{"name": "agentwrit-sidecar", "env": [reader]}]),
                SidecarPolicy::NoSidecar,
            ),
            (
                json!([{"name": "other", "restartPolicy": "Always", "env": [reader]}]),
                SidecarPolicy::NoSidecar,
            ),
            (ours(json!([])), SidecarPolicy::Missing),
            (ours(json!(null)), SidecarPolicy::Missing),
            (
                ours(json!([{"name": "agentwrit_launch_token", "value": "reader"}])),
                SidecarPolicy::Missing,
            ),
            (
                ours(json!([{"name": "AGENTWRIT_LAUNCH_TOKEN"}])),
                SidecarPolicy::Missing,
            ),
            (ours(json!([reader])), SidecarPolicy::Named("reader".into())),
            // The kubelet takes the last.
            (ours(json!([reader, other])), SidecarPolicy::Named("other".into())),
            (ours(json!([other, reader])), SidecarPolicy::Named("reader".into())),
            (ours(json!([from, reader])), SidecarPolicy::Named("reader".into())),
            (ours(json!([reader, from])), SidecarPolicy::Unclear),
            (ours(json!([from])), SidecarPolicy::Unclear),
        ];
        for (init_containers, wanted) in table {
            let pod = json!({"spec": {"initContainers": init_containers}}).to_string();
            assert_eq!(PodFacts::from_json(&pod).unwrap().sidecar, wanted, "{pod}");
        }
        let twice = json!({"spec": {"initContainers": [ours(json!([reader]))[0], ours(json!([reader]))[0]]}});
        let facts = PodFacts::from_json(&twice.to_string()).unwrap();
        assert_eq!(
            facts.sidecar,
            SidecarPolicy::Unclear,
            "the API server takes no two of one name"
        );
        // Not ours, whatever its environment says: containers that run beside the application.
        let beside = json!({"spec": {"containers": ours(json!([reader]))}});
        assert_eq!(
            PodFacts::from_json(&beside.to_string()).unwrap().sidecar,
            SidecarPolicy::NoSidecar
        );
    }
}
