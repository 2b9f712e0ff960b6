//! Bodies of the attestation and policy API (`docs/kubernetes-api.md` §4).

pub mod clients;
mod denial_kind;
mod denials;
pub mod label_selector;
mod pods;
mod policies;
mod policy_field;

use serde::{Deserialize, Serialize};

use crate::ids::OrchId;
use crate::store_mark::StoreMark;

pub use clients::{AppClient, ClientSecret};
pub use denial_kind::DenialKind;
pub use denials::{Denial, DenialsResponse};
pub use label_selector::{LabelOperator, LabelRequirement, LabelSelector};
pub use pods::{LivePod, PodEndedRequest, PodLaunchRequest, PodLaunchResponse, PodReleaseResponse};
pub use policies::{
    AppSpec, BulkItem, BulkRequest, BulkResponse, BulkResult, LaunchTokenSpec, MAX_ACTIVE_AGENTS, MAX_AUDIENCE_BYTES,
    MAX_AUDIENCES, MAX_DELEGATION_NAMESPACES, PolicyKind, PolicyListResponse, PolicyState, PolicySummary, PutApp,
    PutLaunchToken, PutPolicy, PutPolicyResponse, WriteOrder,
};
pub use policy_field::{HasPolicyFields, PolicyField};

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

/// Namespace and app of such an id; `None` for that of no attested agent. Neither has a dot in its name.
pub fn app_of_orch_id(orch_id: &str) -> Option<(&str, &str)> {
    orch_id.strip_prefix(ORCH_PREFIX)?.split_once('.')
}

/// The body of `POST /v1/k8s/mark`: what the caller remembers of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MarkRequest {
    /// The text of the mark as it was kept, whatever it is; empty when there is none.
    #[cfg_attr(feature = "openapi", schema(examples("")))]
    pub mark: String,
    /// Whether the answer is to list what the store holds then, as `GET /v1/k8s/policies` does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<bool>, examples(false)))]
    pub list: bool,
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
    /// What the store holds, read after the comparison; there when it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub list: Option<PolicyListResponse>,
}

/// The answer of `DELETE` of a policy and of `POST /v1/k8s/pods/{uid}/ended`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RevokedResponse {
    /// Sessions that ended, and delegations to a pod that ended.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, examples(1)))]
    pub revoked: i64,
}

#[cfg(test)]
mod tests;
