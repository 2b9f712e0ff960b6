//! Namespaces that are being deleted: the API server lets nothing be created there any more, but objects be changed.
//!
//! The watch says which they are, so that nobody tries ([`crate::leader::guard`]). Where the watch is behind, the API
//! server's refusal says the same; [`is_refusal`] knows it.

use k8s_openapi::api::core::v1::Namespace;
use kube::core::response::{StatusCause, StatusDetails};
use kube::core::{PartialObjectMeta, Status};
use kube::runtime::reflector::{ObjectRef, Store};

/// What the API server's refusal has among its causes.
const CAUSE: &str = "NamespaceTerminating";

/// Which namespaces are being deleted, as far as the watch has shown.
#[derive(Debug, Clone)]
pub(crate) struct EndingNamespaces(Store<PartialObjectMeta<Namespace>>);

impl EndingNamespaces {
    /// Those of these namespaces.
    pub(crate) const fn among(namespaces: Store<PartialObjectMeta<Namespace>>) -> Self {
        Self(namespaces)
    }

    /// Whether this is one of them; a namespace that isn't known is none.
    pub(crate) fn has(&self, namespace: &str) -> bool {
        let found = self.0.get(&ObjectRef::new(namespace));
        found.is_some_and(|found| found.metadata.deletion_timestamp.is_some())
    }

    /// The one in which something would be created by a POST to this path, if it is one.
    pub(crate) fn of<'a>(&self, path: &'a str) -> Option<&'a str> {
        let (_, rest) = path.split_once("/namespaces/")?;
        let (namespace, _) = rest.split_once('/')?;
        self.has(namespace).then_some(namespace)
    }
}

/// What the API server would answer to a creation in this namespace.
pub(crate) fn refusal(namespace: &str) -> kube::Error {
    let message = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let details = StatusDetails {
        name: String::new(),
        group: String::new(),
        kind: String::new(),
        uid: String::new(),
        causes: vec![StatusCause {
            reason: CAUSE.to_owned(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".to_owned(),
        }],
        retry_after_seconds: 0,
    };
    let status = Status::failure(&message, "Forbidden")
        .with_code(403)
        .with_details(details);
    kube::Error::Api(Box::new(status))
}

/// Whether the API server refused since the namespace is being deleted.
pub(crate) fn is_refusal(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403 && causes.into_iter().any(|cause| cause.reason == CAUSE)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    /// The namespaces `shop`, and `old`, which is being deleted.
    pub(crate) fn old_is_ending() -> EndingNamespaces {
        let (store, mut writer) = reflector::store();
        for (name, deleted) in [("shop", None), ("old", Some("2026-01-01T00:00:00Z"))] {
            let namespace = json!({"metadata": {"name": name, "deletionTimestamp": deleted}});
            writer.apply_watcher_event(&Event::Apply(serde_json::from_value(namespace).unwrap()));
        }
        EndingNamespaces::among(store)
    }

    #[test]
    fn what_is_created_in_an_ending_namespace_is_known_by_its_path() {
        let ending = old_is_ending();
        assert!(ending.has("old") && !ending.has("shop") && !ending.has("unknown"));
        for (path, found) in [
            ("/api/v1/namespaces/old/configmaps", Some("old")),
            ("/apis/events.k8s.io/v1/namespaces/old/events", Some("old")),
            ("/apis/events.k8s.io/v1/namespaces/shop/events", None),
            ("/api/v1/namespaces/unknown/secrets", None),
            ("/api/v1/namespaces", None),
            ("/apis/authentication.k8s.io/v1/tokenreviews", None),
        ] {
            assert_eq!(ending.of(path), found, "{path}");
        }
    }

    #[test]
    fn our_own_refusal_is_known_as_the_api_servers() {
        assert!(is_refusal(&refusal("old")));
        let other = Status::failure("exceeded quota", "Forbidden").with_code(403);
        assert!(!is_refusal(&kube::Error::Api(Box::new(other))));
    }
}
