//! The head of a pod: the few fields that this module reads.

use std::borrow::Cow;

use agentwrit_protocol::inject::LABEL_INJECTED;
use agentwrit_protocol::k8s::LivePod;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use serde::{Deserialize, Deserializer};

/// A pod's UID, namespace, name, version and our label. The rest of its metadata is as long as its author likes, and
/// is passed over while it is read.
#[derive(Debug, Clone)]
pub(super) struct PodHead(ObjectMeta);

#[derive(Deserialize)]
struct Wire {
    metadata: WireMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMetadata {
    uid: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    resource_version: Option<String>,
    labels: Option<WireLabels>,
}

#[derive(Deserialize)]
struct WireLabels {
    #[serde(rename = "agentwrit.io/injected")]
    injected: Option<String>,
}

impl<'de> Deserialize<'de> for PodHead {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let metadata = Wire::deserialize(deserializer)?.metadata;
        let label = metadata.labels.and_then(|labels| labels.injected);
        Ok(Self(ObjectMeta {
            uid: metadata.uid,
            namespace: metadata.namespace,
            name: metadata.name,
            resource_version: metadata.resource_version,
            labels: label.map(|value| [(LABEL_INJECTED.to_owned(), value)].into()),
            ..ObjectMeta::default()
        }))
    }
}

impl Resource for PodHead {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    /// The API server sends the metadata alone.
    fn metadata_api() -> bool {
        true
    }

    fn kind((): &()) -> Cow<'_, str> {
        Pod::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Pod::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Pod::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Pod::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.0
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0
    }
}

impl PodHead {
    /// Whether the pod says of itself that it was injected.
    pub(super) fn is_labelled(&self) -> bool {
        self.labels().get(LABEL_INJECTED).is_some_and(|value| value == "true")
    }

    /// As the broker names pods.
    pub(super) fn live(&self) -> LivePod {
        LivePod {
            uid: self.uid().unwrap_or_default().into(),
            namespace: self.namespace().unwrap_or_default(),
            name: self.name_any(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_identity_of_a_pod_is_kept() {
        let head: PodHead = serde_json::from_value(json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {
                "uid": "u", "namespace": "shop", "name": "reader", "resourceVersion": "7",
                "labels": {LABEL_INJECTED: "true", "other": "x"},
                "annotations": {"notes": "long"}, "managedFields": [{"manager": "kubectl"}],
            },
        }))
        .unwrap();
        assert!(head.is_labelled());
        let pod = head.live();
        assert_eq!((&*pod.uid, &*pod.namespace, &*pod.name), ("u", "shop", "reader"));
        let kept = json!({
            "uid": "u", "namespace": "shop", "name": "reader", "resourceVersion": "7", "labels": {LABEL_INJECTED: "true"},
        });
        assert_eq!(serde_json::to_value(head.meta()).unwrap(), kept);
    }

    #[test]
    fn a_pod_without_labels_is_not_labelled() {
        for labels in [json!(null), json!({}), json!({LABEL_INJECTED: "false"})] {
            let head: PodHead = serde_json::from_value(json!({"metadata": {"labels": labels}})).unwrap();
            assert!(!head.is_labelled());
        }
    }
}
