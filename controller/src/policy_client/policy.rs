//! The two kinds of policy, as the broker takes them.

use agentwrit_protocol::k8s::{
    AppClient, AppSpec, BulkItem, HasPolicyFields, LaunchTokenSpec, PolicyKind, PolicySummary, PutPolicy,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PolicyKey {
    pub(crate) kind: PolicyKind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// A spec that the broker takes.
pub(crate) trait PolicySpec: serde::Serialize + HasPolicyFields + Send + Sync {
    /// Which kind it belongs to.
    const KIND: PolicyKind;

    /// What the client of an AgentApp logs in with.
    fn client(&self) -> Option<&AppClient> {
        None
    }

    /// A write of it, on its way to the broker.
    fn item(key: &PolicyKey, put: PutPolicy<Self>) -> BulkItem
    where
        Self: Sized;
}

impl From<&PolicySummary> for PolicyKey {
    fn from(policy: &PolicySummary) -> Self {
        Self {
            kind: policy.kind,
            namespace: policy.namespace.clone(),
            name: policy.name.clone(),
        }
    }
}

impl PolicySpec for AppSpec {
    const KIND: PolicyKind = PolicyKind::App;

    fn client(&self) -> Option<&AppClient> {
        self.client.as_ref()
    }

    fn item(key: &PolicyKey, put: PutPolicy<Self>) -> BulkItem {
        BulkItem::App {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            put,
        }
    }
}

impl PolicySpec for LaunchTokenSpec {
    const KIND: PolicyKind = PolicyKind::LaunchToken;

    fn item(key: &PolicyKey, put: PutPolicy<Self>) -> BulkItem {
        BulkItem::LaunchToken {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            put,
        }
    }
}
