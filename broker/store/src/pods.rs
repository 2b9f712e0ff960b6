//! Pods by what people know of them, and what those hold.

use std::fmt;

use agentwrit_protocol::k8s::{LivePod, orch_id};
use agentwrit_protocol::{OrchId, PodUid, UnixMillis};
use async_trait::async_trait;

use super::{Attested, Result, Session};

/// Which pods, by a name that people have for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodSelector {
    /// All of a namespace.
    Namespace(String),
    /// Those that launched under an AgentApp.
    App {
        /// `metadata.namespace`.
        namespace: String,
        /// `metadata.name`.
        name: String,
    },
    /// Those that launched under a LaunchToken.
    Policy {
        /// `metadata.namespace`.
        namespace: String,
        /// `metadata.name`.
        name: String,
    },
    /// All on a node.
    Node(String),
    /// Those that run under a ServiceAccount.
    ServiceAccount {
        /// `metadata.namespace`.
        namespace: String,
        /// `metadata.name`.
        name: String,
    },
}

impl PodSelector {
    /// The word for it, on the wire and in metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Namespace(_) => "namespace",
            Self::App { .. } => "app",
            Self::Policy { .. } => "policy",
            Self::Node(_) => "node",
            Self::ServiceAccount { .. } => "service_account",
        }
    }

    /// The name, on the wire: `namespace/name` but for a namespace or a node.
    pub fn target(&self) -> String {
        match self {
            Self::Namespace(name) | Self::Node(name) => name.clone(),
            Self::App { namespace, name }
            | Self::Policy { namespace, name }
            | Self::ServiceAccount { namespace, name } => format!("{namespace}/{name}"),
        }
    }

    /// The orchestration of the agents of an AgentApp.
    pub fn orchestration(&self) -> Option<OrchId> {
        match self {
            Self::App { namespace, name } => Some(orch_id(namespace, name)),
            _ => None,
        }
    }

    /// Whether what is bound to a pod in this way is among it.
    pub fn hits(&self, bound: &Attested) -> bool {
        match self {
            Self::Namespace(namespace) => bound.namespace == *namespace,
            Self::App { namespace, name } => bound.orch_id == orch_id(namespace, name),
            Self::Policy { namespace, name } => bound.namespace == *namespace && bound.policy_name == *name,
            Self::Node(node) => bound.node == *node,
            Self::ServiceAccount { namespace, name } => bound.namespace == *namespace && bound.service_account == *name,
        }
    }
}

impl fmt::Display for PodSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Namespace(_) => "namespace",
            Self::App { .. } => "AgentApp",
            Self::Policy { .. } => "LaunchToken",
            Self::Node(_) => "node",
            Self::ServiceAccount { .. } => "ServiceAccount",
        };
        write!(f, "{kind} {}", self.target())
    }
}

/// A pod as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPod {
    /// Which.
    pub pod: LivePod,
    /// The node that it runs on; empty when it isn't known.
    pub node: String,
    /// Name of its ServiceAccount.
    pub service_account: String,
    /// Name of the LaunchToken that it launched under last.
    pub policy: String,
    /// Of the AgentApp that it launched under last.
    pub orch_id: OrchId,
}

impl KnownPod {
    /// That of a launch.
    pub fn of(bound: &Attested) -> Self {
        Self {
            pod: LivePod {
                uid: bound.pod_uid.clone(),
                namespace: bound.namespace.clone(),
                name: bound.pod_name.clone(),
            },
            node: bound.node.clone(),
            service_account: bound.service_account.clone(),
            policy: bound.policy_name.clone(),
            orch_id: bound.orch_id.clone(),
        }
    }
}

/// How much may be used of what the broker has given out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Pods that are remembered.
    pub pods: i64,
    /// Sessions that have not ended and have a token that has not expired.
    pub agents: i64,
    /// The same of delegations: to these pods, and under these sessions.
    pub delegations: i64,
    /// Launch tokens that are neither used nor expired.
    pub launch_tokens: i64,
}

/// What a pod holds, in rows.
#[derive(Debug, Clone)]
pub struct HeldByPod {
    /// Which.
    pub pod: PodUid,
    /// Its sessions that may have tokens that have not expired, ended ones included.
    pub sessions: Vec<Session>,
    /// Its last session, in case there is none among those.
    pub last: Option<Session>,
    /// Delegations to its agents whose tokens are still valid.
    pub delegations: Vec<Session>,
}

/// Repository of pods, many at a time.
#[async_trait]
pub trait PodGroups {
    /// UIDs of the pods that a selector means and that have not ended, in their order: those that launched so last, and
    /// those of sessions that were opened so and have tokens that have not expired.
    async fn pods_matching(&mut self, selector: &PodSelector) -> Result<Vec<PodUid>>;
    /// What these pods hold, but for launch tokens, which are 0 here.
    async fn holdings_of(&mut self, pods: &[PodUid]) -> Result<Holdings>;
    /// What anybody holds.
    async fn holdings(&mut self) -> Result<Holdings>;
    /// Quarantines pods as [`super::Policies::quarantine_pod`] does one; those that were not before.
    async fn quarantine_pods(&mut self, pods: &[PodUid], by: &str, until: UnixMillis) -> Result<Vec<PodUid>>;
    /// What those of these pods hold that have not ended, in their order.
    async fn held_by_pods(&mut self, pods: &[PodUid]) -> Result<Vec<HeldByPod>>;
    /// Ends sessions as revoked as [`super::Sessions::end_session`] does one; whether it has ended each.
    async fn revoke_sessions(&mut self, sessions: &[&Session]) -> Result<Vec<bool>>;
}
