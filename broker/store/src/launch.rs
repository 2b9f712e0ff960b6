//! Launch tokens: what one registration may be made with.

use agentwrit_protocol::{OrchId, PodUid, PolicyUid, ScopeSet, TaskId, Ttl, UnixMillis, lower_hex};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Result;

/// Lower-hex SHA-256 of a launch token; the token itself is never stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LaunchTokenHash(String);

impl LaunchTokenHash {
    /// The hash of a launch token.
    pub fn of(token: &str) -> Self {
        Self(lower_hex(Sha256::digest(token.as_bytes())))
    }

    /// The hash as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A hash that a store holds.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }
}

/// What binds a launch token or a session to the pod that was attested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attested {
    /// metadata.uid of the LaunchToken object.
    pub policy_uid: PolicyUid,
    /// metadata.uid of its AgentApp.
    pub app_uid: PolicyUid,
    /// Namespace of policy and pod.
    pub namespace: String,
    /// metadata.name of the LaunchToken object.
    pub policy_name: String,
    /// metadata.uid of the pod.
    pub pod_uid: PodUid,
    /// metadata.name of the pod.
    pub pod_name: String,
    /// The node that the pod runs on.
    pub node: String,
    /// Name of the pod's ServiceAccount.
    pub service_account: String,
    /// Raw Ed25519 public key, standard base64 with padding: the only one that may register.
    pub public_key: String,
    /// The only `orch_id` that may register.
    pub orch_id: OrchId,
    /// The only `task_id` that may register.
    pub task_id: TaskId,
    /// Generation of the LaunchToken object that was in force.
    pub policy_generation: i64,
    /// Generation of the AgentApp that was in force.
    pub app_generation: i64,
    /// Whether the tokens of the session are renewed only with a proof that the caller holds the key. Absent in what
    /// launches of before have left.
    #[serde(default)]
    pub renewal_proof: bool,
}

/// A launch token as stored.
#[derive(Debug, Clone)]
pub struct LaunchToken {
    /// Hash of the token.
    pub hash: LaunchTokenHash,
    /// Free text.
    pub agent_name: String,
    /// Ceiling of what the agent may ask for.
    pub allowed_scope: ScopeSet,
    /// Longest life of the agent's token.
    pub max_ttl: Ttl,
    /// Whether one registration uses it up.
    pub single_use: bool,
    /// When its life is over.
    pub expires_at: UnixMillis,
    /// When it was used up.
    pub consumed_at: Option<UnixMillis>,
    /// Subject that made it.
    pub created_by: String,
    /// Carried by every later event of the session; empty for launch tokens made by people.
    pub correlation_id: String,
    /// The pod it was made for.
    pub attested: Option<Attested>,
}

impl LaunchToken {
    /// Whose it is, for the audit trail.
    pub fn names(&self) -> Vec<(&str, &str)> {
        vec![("agent_name", &self.agent_name), ("launched by", &self.created_by)]
    }
}

/// Repository of launch tokens.
#[async_trait]
pub trait LaunchTokens {
    /// Stores a new one.
    async fn insert_launch_token(&mut self, token: &LaunchToken) -> Result<()>;
    /// The one with this hash, expired and consumed ones included while they are kept.
    async fn launch_token(&mut self, hash: &LaunchTokenHash) -> Result<Option<LaunchToken>>;
    /// Uses it up; false when that was done before.
    async fn consume_launch_token(&mut self, hash: &LaunchTokenHash) -> Result<bool>;
    /// The unused, unexpired ones made for pods.
    async fn unused_attested_launch_tokens(&mut self) -> Result<Vec<LaunchToken>>;
}
