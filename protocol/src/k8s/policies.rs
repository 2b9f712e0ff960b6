//! Policies: how the controller writes them, and what the broker holds of them.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{AppClient, LabelSelector, LivePod};
use crate::ids::PolicyUid;
use crate::lower_hex;
use crate::problem::Problem;
#[cfg(feature = "openapi")]
use crate::schema;

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
    /// What the `aud` of the agents' tokens has beside `AA_AUDIENCE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<schema::Audience>, max_items = 16))]
    pub audiences: Vec<String>,
    /// Namespaces to whose agents those of this app may delegate, beside their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<schema::Namespace>, max_items = 64))]
    pub delegation_namespaces: Vec<String>,
    /// What a program outside the cluster logs in with; absent: nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub client: Option<AppClient>,
}

/// Most namespaces that one AgentApp's agents may delegate into.
pub const MAX_DELEGATION_NAMESPACES: usize = 64;

/// Most audiences of one AgentApp.
pub const MAX_AUDIENCES: usize = 16;
/// Longest audience, bytes.
pub const MAX_AUDIENCE_BYTES: usize = 256;

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
    /// Labels that a pod must have at its launch; without it any pod will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub pod_selector: Option<LabelSelector>,
    /// How many pods may hold live agents of it at a time; without it any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        schema(nullable = false, minimum = 1, maximum = 100_000, examples(20))
    )]
    pub max_active_agents: Option<i64>,
}

/// Largest `max_active_agents`.
pub const MAX_ACTIVE_AGENTS: i64 = 100_000;

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
    /// For an AgentApp: what its client logs in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub client: Option<AppClient>,
    /// Live agents under it.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, examples(2)))]
    pub active_agents: i64,
    /// Registrations ever made under it.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, examples(9)))]
    pub issued: i64,
}

/// The answer of `GET /v1/k8s/policies`: enough to compare everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PolicyListResponse {
    /// The store's epoch, as in the header.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Hex32))]
    pub epoch: String,
    /// The highest lease epoch seen.
    #[cfg_attr(feature = "openapi", schema(examples(3)))]
    pub lease_epoch: i64,
    /// Fields of specs that may be left out and that this broker enforces, by their names in the custom resources. A
    /// broker that came before them lists none.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required, examples("podSelector")))]
    pub fields: Vec<String>,
    /// All policies.
    pub policies: Vec<PolicySummary>,
    /// All pods that launched and have not ended, as far as the broker was told.
    pub pods: Vec<LivePod>,
}
