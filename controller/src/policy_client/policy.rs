//! The two kinds of policy, as the broker takes them.

use agentwrit_client::BrokerClient;
use agentwrit_protocol::k8s::{
    AppSpec, HasPolicyFields, LaunchTokenSpec, PolicyKind, PolicySummary, PutPolicy, PutPolicyResponse,
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
    fn send(
        client: &BrokerClient,
        key: &PolicyKey,
        put: &PutPolicy<Self>,
    ) -> impl Future<Output = Result<PutPolicyResponse, agentwrit_client::Error>> + Send
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

    async fn send(
        client: &BrokerClient,
        key: &PolicyKey,
        put: &PutPolicy<Self>,
    ) -> Result<PutPolicyResponse, agentwrit_client::Error> {
        Ok(client.put_app(&key.namespace, &key.name, put).await?.value)
    }
}

impl PolicySpec for LaunchTokenSpec {
    const KIND: PolicyKind = PolicyKind::LaunchToken;

    async fn send(
        client: &BrokerClient,
        key: &PolicyKey,
        put: &PutPolicy<Self>,
    ) -> Result<PutPolicyResponse, agentwrit_client::Error> {
        Ok(client.put_launch_token(&key.namespace, &key.name, put).await?.value)
    }
}
