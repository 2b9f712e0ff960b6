//! Launch tokens for pods.

use agentwrit_protocol::k8s::PodLaunchRequest;
use axum::extract::State;
use http::StatusCode;

use super::{Answer, K8s, body, incoming};
use crate::http::{ApiRequest, reply};

/// Makes a launch token for the pod that calls.
///
/// It is for sidecars. The launch token is good once, within 30 s, and bound to the key, `orch_id` and `task_id`.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/v1/k8s/launch-tokens", tag = "Kubernetes", operation_id = "launchPod",
    security(("serviceAccount" = [])),
    request_body = PodLaunchRequest,
    responses((
        status = 201, body = agentwrit_protocol::k8s::PodLaunchResponse,
        description = "What the pod registers with.",
    )),
    extensions(("x-refusals" = json!([
        "invalid_request: policy is required",
        "invalid_scope_format: scopes has 65 items: at most 64 are allowed",
        "invalid_scope_format: scopes[0] is 257 bytes long: at most 256 are allowed",
        "invalid_scope_format: scopes \"read:orders\" must be action:resource:identifier",
        "invalid_ttl: ttl_seconds must be 1 or more",
        "service_account_not_allowed: the pod's ServiceAccount isn't listed in the LaunchToken",
        "pod_not_selected: the pod doesn't match the LaunchToken's selector",
        "suspended: the AgentApp or LaunchToken is suspended",
        "policy_not_ready: the policy is withdrawn until it is repaired",
        "max_active_agents: the LaunchToken's limit of live agents is reached",
        "revoked: a person revoked the pod's agent",
        "launch_token_not_found: the pod's namespace has no such LaunchToken",
        "rate_limited: one registration per 10 s and pod, three at once",
    ]))),
))]
pub(super) async fn launch(State(k8s): State<K8s>, call: ApiRequest) -> Answer {
    let request = || body::<PodLaunchRequest>(&call);
    let launched = k8s.callers().launch(incoming(&call), request).await?;
    Ok(reply(StatusCode::CREATED, &launched))
}
