//! Pods: their launch, their end, and the end of their quarantine.

use serde::{Deserialize, Serialize};

use crate::ids::{OrchId, PodUid, TaskId};
#[cfg(feature = "openapi")]
use crate::schema;
use crate::sensitive::Sensitive;
use crate::wire::LaunchPolicy;

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
