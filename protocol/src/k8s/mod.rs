//! Bodies of the attestation and policy API (`docs/kubernetes-api.md` §4).

mod denial_kind;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ids::{OrchId, PodUid, PolicyUid, TaskId};
use crate::lower_hex;
use crate::problem::Problem;
#[cfg(feature = "openapi")]
use crate::schema;
use crate::sensitive::Sensitive;
use crate::store_mark::StoreMark;
use crate::wire::LaunchPolicy;

pub use denial_kind::DenialKind;

/// Header on every answer: the store's epoch, new at creation and at every restore.
pub const EPOCH_HEADER: &str = "Agentwrit-Epoch";
/// Most items in one bulk write.
pub const MAX_BULK_ITEMS: usize = 500;
/// First part of the `orch_id` of every attested agent.
pub const ORCH_PREFIX: &str = "k8s.";

/// `orch_id` of an app's agents: `k8s.<namespace>.<app>`.
pub fn orch_id(namespace: &str, app: &str) -> OrchId {
    format!("{ORCH_PREFIX}{namespace}.{app}").into()
}

/// Where a write stands among all writes: epochs are compared globally, (epoch, sequence) per object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WriteOrder {
    /// `leaseTransitions` of the controller's Lease.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, examples(3)))]
    pub lease_epoch: i64,
    /// Rises with every write under one epoch.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, examples(17)))]
    pub sequence: i64,
}

/// Whether a policy may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PolicyState {
    /// In force.
    Ready,
    /// Withdrawn: launches answer `policy_not_ready`, renewals go on against the last accepted spec.
    NotReady,
    /// Sessions end; launches answer `suspended`.
    Suspended,
}

/// The part of an AgentApp's spec that the broker enforces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AppSpec {
    /// Ceiling of every LaunchToken of the app.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::PolicyScopes))]
    pub scopes: Vec<String>,
    /// Caps every LaunchToken's `max_ttl_seconds`.
    #[cfg_attr(feature = "openapi", schema(minimum = 60, maximum = 86400, examples(3600)))]
    pub max_agent_ttl_seconds: i64,
}

/// The part of a LaunchToken's spec that the broker enforces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LaunchTokenSpec {
    /// Name of the AgentApp in the same namespace.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::PolicyName))]
    pub app: String,
    /// Free text, shown in the audit trail.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::ShortText))]
    pub agent_name: String,
    /// What pods may ask for.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::PolicyScopes))]
    pub allowed_scopes: Vec<String>,
    /// Longest life of a pod's token, seconds.
    #[cfg_attr(feature = "openapi", schema(minimum = 60, maximum = 86400, examples(900)))]
    pub max_ttl_seconds: i64,
    /// ServiceAccounts that a pod must run under.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<schema::ServiceAccountName>, min_items = 1, max_items = 16))]
    pub service_account_names: Vec<String>,
}

/// The body of `PUT /v1/k8s/policies/{apps|launch-tokens}/{namespace}/{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PutPolicy<S> {
    /// metadata.uid of the custom resource.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Uid))]
    pub uid: PolicyUid,
    /// metadata.generation.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, examples(4)))]
    pub generation: i64,
    /// Where this write stands.
    pub order: WriteOrder,
    /// Whether the policy may be used.
    pub state: PolicyState,
    /// Why not, when `state` isn't `ready`; a condition reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<schema::ShortText>))]
    pub reason: Option<String>,
    /// What to enforce.
    pub spec: S,
}

impl<S: Serialize> PutPolicy<S> {
    /// Lower-hex SHA-256 over everything but the order: equal digests mean nothing to do.
    pub fn digest(&self) -> String {
        let parts = serde_json::json!([self.uid, self.generation, self.state, self.reason, self.spec]);
        lower_hex(Sha256::digest(parts.to_string().as_bytes()))
    }
}

/// An AgentApp on its way to the broker.
pub type PutApp = PutPolicy<AppSpec>;
/// A LaunchToken on its way to the broker.
pub type PutLaunchToken = PutPolicy<LaunchTokenSpec>;

/// The answer to a policy write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PutPolicyResponse {
    /// SHA-256 of all that was written but the order, in lower-case hexadecimal digits.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Hex64))]
    pub digest: String,
    /// For an AgentApp: its id among the broker's apps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub app_id: Option<String>,
    /// Sessions that the write ended, because it no longer covers them.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required, minimum = 0, examples(0)))]
    pub revoked: i64,
}

/// The two kinds of policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PolicyKind {
    /// AgentApp.
    App,
    /// LaunchToken.
    LaunchToken,
}

impl PolicyKind {
    /// The path segment under `/v1/k8s/policies/`.
    pub const fn path(self) -> &'static str {
        match self {
            Self::App => "apps",
            Self::LaunchToken => "launch-tokens",
        }
    }
}

/// One item of a bulk write.
//
// It is only written: serde would read one into a tree to find out its kind, so the broker reads kind, namespace and name
// first and then the write itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BulkItem {
    /// An AgentApp.
    App {
        /// metadata.namespace.
        #[cfg_attr(feature = "openapi", schema(value_type = schema::Namespace))]
        namespace: String,
        /// metadata.name.
        #[cfg_attr(feature = "openapi", schema(value_type = schema::PolicyName))]
        name: String,
        /// The write.
        #[cfg_attr(feature = "openapi", schema(value_type = PutPolicy<AppSpec>))]
        #[serde(flatten)]
        put: PutApp,
    },
    /// A LaunchToken.
    LaunchToken {
        /// metadata.namespace.
        #[cfg_attr(feature = "openapi", schema(value_type = schema::Namespace))]
        namespace: String,
        /// metadata.name.
        #[cfg_attr(feature = "openapi", schema(value_type = schema::PolicyName))]
        name: String,
        /// The write.
        #[cfg_attr(feature = "openapi", schema(value_type = PutPolicy<LaunchTokenSpec>))]
        #[serde(flatten)]
        put: PutLaunchToken,
    },
}

/// The body of `PUT /v1/k8s/policies`, at most 500 items and 1 MiB; apps before their launch tokens.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BulkRequest {
    /// The writes, applied in order.
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 500))]
    pub items: Vec<BulkItem>,
}

/// The result of one item of a bulk write.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BulkResult {
    /// As it was sent.
    pub kind: PolicyKind,
    /// As it was sent.
    #[cfg_attr(feature = "openapi", schema(examples("shop")))]
    pub namespace: String,
    /// As it was sent.
    #[cfg_attr(feature = "openapi", schema(examples("orders")))]
    pub name: String,
    /// The answer of an accepted item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub accepted: Option<PutPolicyResponse>,
    /// The problem of a refused item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub problem: Option<Problem>,
}

/// The answer of `PUT /v1/k8s/policies`: 200, one result an item in the order sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BulkResponse {
    /// One result an item.
    pub results: Vec<BulkResult>,
}

/// What the broker holds of one custom resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PolicySummary {
    /// Which kind.
    pub kind: PolicyKind,
    /// metadata.namespace.
    #[cfg_attr(feature = "openapi", schema(examples("shop")))]
    pub namespace: String,
    /// metadata.name.
    #[cfg_attr(feature = "openapi", schema(examples("orders")))]
    pub name: String,
    /// metadata.uid.
    #[cfg_attr(feature = "openapi", schema(value_type = String, examples("7f2c8c1e-0b7d-4f3a-9a55-2f1d0c6b8e90")))]
    pub uid: PolicyUid,
    /// metadata.generation.
    #[cfg_attr(feature = "openapi", schema(examples(4)))]
    pub generation: i64,
    /// SHA-256 of all that was written but the order, in lower-case hexadecimal digits.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Hex64))]
    pub digest: String,
    /// The last accepted write.
    pub order: WriteOrder,
    /// For an AgentApp: its id among the broker's apps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub app_id: Option<String>,
    /// Live agents under it.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, examples(2)))]
    pub active_agents: i64,
    /// Registrations ever made under it.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, examples(9)))]
    pub issued: i64,
}

/// A pod with a live session, as the broker knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LivePod {
    /// metadata.uid of the pod.
    #[cfg_attr(feature = "openapi", schema(value_type = String, examples("7f2c8c1e-0b7d-4f3a-9a55-2f1d0c6b8e90")))]
    pub uid: PodUid,
    /// metadata.namespace.
    #[cfg_attr(feature = "openapi", schema(examples("shop")))]
    pub namespace: String,
    /// metadata.name.
    #[cfg_attr(feature = "openapi", schema(examples("reader-x7k2p")))]
    pub name: String,
}

/// The answer of `GET /v1/k8s/policies`: enough to compare everything.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PolicyListResponse {
    /// The store's epoch, as in the header.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Hex32))]
    pub epoch: String,
    /// The highest lease epoch seen.
    #[cfg_attr(feature = "openapi", schema(examples(3)))]
    pub lease_epoch: i64,
    /// All policies.
    pub policies: Vec<PolicySummary>,
    /// All pods that launched and have not ended, as far as the broker was told.
    pub pods: Vec<LivePod>,
}

/// The body of `POST /v1/k8s/mark`: what the caller remembers of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MarkRequest {
    /// The text of the mark as it was kept, whatever it is; empty when there is none.
    #[cfg_attr(feature = "openapi", schema(examples("")))]
    pub mark: String,
}

/// The answer of `POST /v1/k8s/mark`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MarkResponse {
    /// Where the store stands now: the mark to keep.
    pub mark: StoreMark,
    /// Whether the mark showed that the store was put back from a copy, so that it has begun a new epoch.
    #[cfg_attr(feature = "openapi", schema(examples(false)))]
    pub restored: bool,
}

/// The answer of `DELETE` of a policy and of `POST /v1/k8s/pods/{uid}/ended`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RevokedResponse {
    /// Sessions that ended, and delegations to a pod that ended.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, examples(1)))]
    pub revoked: i64,
}

/// The body of `POST /v1/k8s/launch-tokens`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct PodLaunchRequest {
    /// Name of the LaunchToken in the pod's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::PolicyName, required))]
    pub policy: Option<String>,
    /// Raw Ed25519 public key, standard base64 with padding; only it can register with the launch token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::PublicKey, required))]
    pub public_key: Option<String>,
    /// Ask for less than the LaunchToken allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<schema::PodScopes>))]
    pub scopes: Option<Vec<String>>,
    /// Ask for a shorter life, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, examples(600)))]
    pub ttl_seconds: Option<i64>,
    /// Whether the session's token is to be renewed only with the header `Agentwrit-Proof`: a token that was copied
    /// can't be renewed then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(examples(true)))]
    pub renewal_proof: Option<bool>,
}

/// The answer of `POST /v1/k8s/launch-tokens`, 201.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PodLaunchResponse {
    /// Single use, 30 s, bound to the key and the two ids.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::HexSecret))]
    pub launch_token: Sensitive,
    /// RFC 3339, seconds, UTC.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Timestamp))]
    pub expires_at: String,
    /// To register with.
    #[cfg_attr(feature = "openapi", schema(value_type = String, pattern = r"^k8s\.", examples("k8s.shop.orders")))]
    pub orch_id: OrchId,
    /// To register with: the pod's UID.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Uid))]
    pub task_id: TaskId,
    /// What to ask for at most.
    pub policy: LaunchPolicy,
}

/// The body of `POST /v1/k8s/pods/{uid}/ended`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PodEndedRequest {
    /// metadata.namespace.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::PodNamespace))]
    pub namespace: String,
    /// metadata.name.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::PodName))]
    pub name: String,
    /// Why: `deleted`, `replaced`, `succeeded` or `failed`.
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$", max_length = 256, examples("deleted"))
    )]
    pub reason: String,
}

/// The answer of `POST /v1/k8s/pods/{uid}/release`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PodReleaseResponse {
    /// Whether the pod was quarantined until now.
    #[cfg_attr(feature = "openapi", schema(examples(true)))]
    pub released: bool,
}

/// One refusal, for the Event on the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Denial {
    /// Rises with every refusal; pass the last one seen as `after`.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, examples(8)))]
    pub cursor: i64,
    /// When, RFC 3339 UTC.
    #[cfg_attr(feature = "openapi", schema(examples("2026-11-21T09:30:00Z")))]
    pub at: String,
    /// Namespace of the pod.
    #[cfg_attr(feature = "openapi", schema(examples("shop")))]
    pub namespace: String,
    /// Name of the pod.
    #[cfg_attr(feature = "openapi", schema(examples("reader-x7k2p")))]
    pub pod: String,
    /// UID of the pod.
    #[cfg_attr(feature = "openapi", schema(value_type = String, examples("7f2c8c1e-0b7d-4f3a-9a55-2f1d0c6b8e90")))]
    pub pod_uid: PodUid,
    /// LaunchToken that it named.
    #[cfg_attr(feature = "openapi", schema(examples("reader")))]
    pub policy: String,
    /// The precise kind, as in the audit trail.
    #[cfg_attr(feature = "openapi", schema(examples("pod_rate_limited")))]
    pub error_kind: String,
    /// A sentence for the Event; holds no secret and nothing of other namespaces.
    #[cfg_attr(feature = "openapi", schema(examples("The pod registers too often.")))]
    pub message: String,
}

/// The answer of `GET /v1/k8s/denials?after=cursor`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DenialsResponse {
    /// Oldest first.
    pub denials: Vec<Denial>,
    /// Pass as `after` next time.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, examples(8)))]
    pub next: i64,
}

#[cfg(test)]
mod tests;
