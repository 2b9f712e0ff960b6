//! The feed of refusals, from which the controller writes Events.

use serde::{Deserialize, Serialize};

use crate::ids::PodUid;

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
