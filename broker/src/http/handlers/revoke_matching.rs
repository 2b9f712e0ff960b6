//! The kill switch.

use agentwrit_protocol::ErrorCode;
use agentwrit_protocol::wire::{RevokeMatchingRequest, RevokeMatchingResponse};
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use crate::http::{ApiError, ApiRequest, AppState, authorize_actor, reply};
use crate::service::authorize::Requirement;
use crate::service::session::revoke_matching::{Extent, MatchingError};

/// Ends all that pods of a name hold, or all that there is.
///
/// With `namespace`, `app`, `policy`, `node` or `service_account` the pods that launched so are quarantined, all in one
/// commit: none of them launches, registers or renews until it is replaced or a person releases it. Their sessions end in
/// the same commit, or for more than 1000 pods in further ones before the answer, and with them all that was delegated by
/// and to them. Pods that launch later are others, and may: suspend the AgentApp to stop those. With `all` a new epoch
/// begins: every token and launch token of before is refused, no pod is quarantined, and agents register again by
/// themselves. `dry_run` only counts. It may be repeated; after a 503 it has to be, since a part may have been done.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/v1/admin/revoke-matching", tag = "Tokens", operation_id = "revokeMatching",
    security(("bearer" = ["admin:revoke:*"])),
    request_body(content = RevokeMatchingRequest, example = json!({"namespace": "shop", "dry_run": true})),
    responses((
        status = 200, body = RevokeMatchingResponse, description = "What was found, and what ended.",
        example = json!({
            "selector": "namespace", "target": "shop", "dry_run": false, "pods": 12, "agents": 12, "delegations": 3,
            "launch_tokens": 1, "sessions_ended": 13, "pods_quarantined": 12,
        }),
    )),
    extensions(("x-refusals" = json!([
        "invalid_request: exactly one of namespace, app, policy, node, service_account and all must be given, not 0",
        "invalid_request: app \"orders\" must be NAMESPACE/NAME, such as shop/orders",
        "invalid_request: all asks for installation, the name of the installation whose agents are to end: here \
         \"agentwrit-system/agentwrit\"",
        "conflict: this is installation \"agentwrit-system/agentwrit\", not \"test/agentwrit\": nothing was revoked",
    ]))),
))]
pub(in crate::http) async fn revoke(State(broker): State<AppState>, call: ApiRequest) -> Result<Response, ApiError> {
    let actor = authorize_actor(&broker, &call, Requirement::admin("admin:revoke:*")).await?;
    let request: RevokeMatchingRequest = call.json()?;
    let extent = Extent::of(&request)?;
    let revoker = broker.matching_revoker();
    let target = match &extent {
        Extent::Pods(selector) => selector.target(),
        Extent::All => revoker.installation.to_owned(),
    };
    let selector = extent.kind().to_owned();
    let installation = request.installation.as_deref().filter(|name| !name.is_empty());
    let struck = if request.dry_run {
        revoker.look(extent, installation).await?
    } else {
        revoker.strike(extent, installation, actor).await?
    };
    let answer = RevokeMatchingResponse {
        selector,
        target,
        dry_run: request.dry_run,
        pods: struck.found.pods,
        agents: struck.found.agents,
        delegations: struck.found.delegations,
        launch_tokens: struck.found.launch_tokens,
        sessions_ended: struck.reach.sessions_ended,
        pods_quarantined: struck.reach.pods_quarantined,
        epoch: struck.epoch,
    };
    Ok(reply(StatusCode::OK, &answer))
}

impl From<MatchingError> for ApiError {
    fn from(error: MatchingError) -> Self {
        match error {
            MatchingError::Store(error) => error.into(),
            MatchingError::Installation { .. } => Self::new(ErrorCode::Conflict, error.to_string()),
            MatchingError::Selector(_) | MatchingError::Name { .. } | MatchingError::Unnamed(_) => {
                Self::invalid(error.to_string())
            }
        }
    }
}
