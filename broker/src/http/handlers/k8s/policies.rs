//! Policies as the controller writes and reads them.

use std::sync::Arc;

use agentwrit_json::{Misfit, Raw};
use agentwrit_protocol::Problem;
use agentwrit_protocol::k8s::{
    BulkResponse, BulkResult, MAX_BULK_ITEMS, MarkRequest, PolicyKind, PutApp, PutLaunchToken,
};
use agentwrit_store::policy::PolicyKey;
use axum::extract::{Path, State};
use http::StatusCode;
use serde::Deserialize;

use super::{Answer, K8s, body};
use crate::http::query::{QueryEndpoint, parameters};
use crate::http::{ApiError, ApiRequest, reply};
use crate::service::k8s::error::{K8sError, WriteRefusal};
use crate::service::k8s::policy::input::{InputError, Write};
use crate::service::k8s::policy::write;
use crate::service::k8s::policy::{list, removal};

#[cfg(feature = "openapi")]
const WRITE_REFUSALS: [&str; 9] = [
    "invalid_request: generation must be 0 or more, not -1",
    "invalid_scope_format: spec.scopes has 65 items: at most 64 are allowed",
    "invalid_scope_format: spec.scopes[0] is 257 bytes long: at most 256 are allowed",
    "invalid_scope_format: spec.scopes \"read:orders\" must be action:resource:identifier",
    "invalid_ttl: spec.max_agent_ttl_seconds must be 60 to 86400 seconds, not 5",
    "forbidden: spec.scopes \"admin:x:y\": the families admin: and app: can't be granted to agents",
    "scope_violation: spec.scopes: write:orders:*: beyond the ceiling of namespace shop, which is [read:orders:*]; take \
     them out, or have the platform's team add them to the chart's value scopeCeilings.shop",
    "conflict: the object was removed; its UID can't come back",
    "stale_writer: a write with a higher order was accepted before",
];

#[cfg(feature = "openapi")]
const REMOVAL_REFUSALS: [&str; 2] = [
    "invalid_request: query parameter uid is required",
    "stale_writer: a write with a higher order was accepted before",
];

/// Writes the policy of one AgentApp.
///
/// It is for the controller. All of it is written, or nothing; equal content is answered without a write.
#[cfg_attr(feature = "openapi", utoipa::path(
    put, path = "/v1/k8s/policies/apps/{namespace}/{name}",
    tag = "Kubernetes", operation_id = "putPolicyApp",
    security(("serviceAccount" = [])),
    params(crate::http::openapi::PolicyPath),
    request_body = agentwrit_protocol::k8s::PutPolicy<agentwrit_protocol::k8s::AppSpec>,
    responses((
        status = 200, body = agentwrit_protocol::k8s::PutPolicyResponse,
        description = "The policy is accepted.",
    )),
    extensions(("x-refusals" = json!(WRITE_REFUSALS))),
))]
pub(super) async fn put_app(
    State(k8s): State<K8s>,
    Path((namespace, name)): Path<(String, String)>,
    call: ApiRequest,
) -> Answer {
    let key = PolicyKey::app(&namespace, &name);
    put(&k8s, &call, |call| Write::app(key, body::<PutApp>(call)?)).await
}

/// Writes the policy of one LaunchToken.
///
/// It is for the controller. All of it is written, or nothing; equal content is answered without a write.
#[cfg_attr(feature = "openapi", utoipa::path(
    put, path = "/v1/k8s/policies/launch-tokens/{namespace}/{name}",
    tag = "Kubernetes", operation_id = "putPolicyLaunchToken",
    security(("serviceAccount" = [])),
    params(crate::http::openapi::PolicyPath),
    request_body = agentwrit_protocol::k8s::PutPolicy<agentwrit_protocol::k8s::LaunchTokenSpec>,
    responses((
        status = 200, body = agentwrit_protocol::k8s::PutPolicyResponse,
        description = "The policy is accepted.",
    )),
    extensions(("x-refusals" = json!(WRITE_REFUSALS))),
))]
pub(super) async fn put_launch_token(
    State(k8s): State<K8s>,
    Path((namespace, name)): Path<(String, String)>,
    call: ApiRequest,
) -> Answer {
    let key = PolicyKey::launch_token(&namespace, &name);
    put(&k8s, &call, |call| {
        Write::launch_token(key, body::<PutLaunchToken>(call)?)
    })
    .await
}

/// The body is read once its caller is known.
async fn put(k8s: &K8s, call: &ApiRequest, read: impl FnOnce(&ApiRequest) -> Result<Write, InputError>) -> Answer {
    let actor = k8s.controller(call).await?;
    let ceilings = Arc::clone(&k8s.broker.config.scope_ceilings);
    let written = write::put(&k8s.broker.store, read(call)?, actor, ceilings).await?;
    Ok(reply(StatusCode::OK, &written))
}

/// Removes the policy of one AgentApp.
///
/// It is for the controller. A tombstone for the UID stays; the request may be repeated.
#[cfg_attr(feature = "openapi", utoipa::path(
    delete, path = "/v1/k8s/policies/apps/{namespace}/{name}",
    tag = "Kubernetes", operation_id = "deletePolicyApp",
    security(("serviceAccount" = [])),
    params(crate::http::openapi::PolicyPath, crate::http::openapi::RemovalQuery),
    responses((
        status = 200, body = agentwrit_protocol::k8s::RevokedResponse,
        description = "The policy is gone.",
    )),
    extensions(("x-refusals" = json!(REMOVAL_REFUSALS))),
))]
pub(super) async fn delete_app(
    State(k8s): State<K8s>,
    Path((namespace, name)): Path<(String, String)>,
    call: ApiRequest,
) -> Answer {
    delete(&k8s, PolicyKey::app(&namespace, &name), &call).await
}

/// Removes the policy of one LaunchToken.
///
/// It is for the controller. A tombstone for the UID stays; the request may be repeated.
#[cfg_attr(feature = "openapi", utoipa::path(
    delete, path = "/v1/k8s/policies/launch-tokens/{namespace}/{name}",
    tag = "Kubernetes", operation_id = "deletePolicyLaunchToken",
    security(("serviceAccount" = [])),
    params(crate::http::openapi::PolicyPath, crate::http::openapi::RemovalQuery),
    responses((
        status = 200, body = agentwrit_protocol::k8s::RevokedResponse,
        description = "The policy is gone.",
    )),
    extensions(("x-refusals" = json!(REMOVAL_REFUSALS))),
))]
pub(super) async fn delete_launch_token(
    State(k8s): State<K8s>,
    Path((namespace, name)): Path<(String, String)>,
    call: ApiRequest,
) -> Answer {
    delete(&k8s, PolicyKey::launch_token(&namespace, &name), &call).await
}

async fn delete(k8s: &K8s, key: PolicyKey, call: &ApiRequest) -> Answer {
    let actor = k8s.controller(call).await?;
    let given = parameters(call.query(), QueryEndpoint::RemovePolicy);
    let removed = removal::remove(&k8s.broker.store, key, &given, actor).await?;
    Ok(reply(StatusCode::OK, &removed))
}

/// Lists the digests of all policies, and the pods with sessions.
///
/// It is for the controller: one request is enough to compare everything.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/v1/k8s/policies", tag = "Kubernetes", operation_id = "listPolicies",
    security(("serviceAccount" = [])),
    responses((
        status = 200, body = agentwrit_protocol::k8s::PolicyListResponse,
        description = "All policies and pods.",
    )),
))]
pub(super) async fn list(State(k8s): State<K8s>, call: ApiRequest) -> Answer {
    k8s.controller(&call).await?;
    Ok(reply(
        StatusCode::OK,
        &list::list(&k8s.broker.store, &k8s.broker.config.scope_ceilings).await?,
    ))
}

/// Compares the store with what is remembered of it.
///
/// It is for the controller, which keeps the mark in its Lease. A store was put back from a copy when it stands before
/// the mark, has another history, or never had the epoch of the mark. It then begins a new epoch, and refuses all
/// tokens of before. A text that is no mark counts as a mark of an unknown epoch. With `list`, the answer also has all
/// that the store holds after the comparison, so that one request compares everything.
#[cfg_attr(feature = "openapi", utoipa::path(
    post, path = "/v1/k8s/mark", tag = "Kubernetes", operation_id = "compareMark",
    security(("serviceAccount" = [])),
    request_body = MarkRequest,
    responses((
        status = 200, body = agentwrit_protocol::k8s::MarkResponse,
        description = "The mark to keep from now on.",
    )),
))]
pub(super) async fn mark(State(k8s): State<K8s>, call: ApiRequest) -> Answer {
    k8s.controller(&call).await?;
    let request: MarkRequest = body(&call)?;
    Ok(reply(
        StatusCode::OK,
        &list::compare_mark(&k8s.broker.store, &request, &k8s.broker.config.scope_ceilings).await?,
    ))
}

/// Longest namespace or name that a result repeats, bytes: the longest name of Kubernetes.
const LONGEST_NAME: usize = 253;

/// The items before they are looked at: one that is malformed spoils no other.
#[derive(Deserialize)]
struct Items<'a> {
    #[serde(borrow)]
    items: Raw<'a>,
}

/// What a result needs even of a malformed item.
#[derive(Deserialize)]
struct Address {
    kind: PolicyKind,
    namespace: String,
    name: String,
}

impl Address {
    fn read(item: Raw<'_>) -> Result<Self, Misfit> {
        let address: Self = item.read()?;
        for (field, value) in [("namespace", &address.namespace), ("name", &address.name)] {
            if value.len() > LONGEST_NAME {
                return Err(Misfit::wrong(format_args!("must be at most {LONGEST_NAME} bytes")).in_member(field));
            }
        }
        Ok(address)
    }

    fn write(&self, item: Raw<'_>) -> Result<Write, InputError> {
        let malformed = |misfit| InputError::new(format!("malformed item: {misfit}"));
        match self.kind {
            PolicyKind::App => Write::app(
                PolicyKey::app(&self.namespace, &self.name),
                item.read().map_err(malformed)?,
            ),
            PolicyKind::LaunchToken => Write::launch_token(
                PolicyKey::launch_token(&self.namespace, &self.name),
                item.read().map_err(malformed)?,
            ),
        }
    }
}

fn malformed(misfit: &Misfit) -> K8sError {
    InputError::new(format!("malformed body: {misfit}")).into()
}

/// Writes many policies in one request, each with a result of its own.
///
/// It is for the controller. Apps come before their launch tokens; a refused item does no harm to the others.
#[cfg_attr(feature = "openapi", utoipa::path(
    put, path = "/v1/k8s/policies", tag = "Kubernetes", operation_id = "putPolicies",
    security(("serviceAccount" = [])),
    request_body = agentwrit_protocol::k8s::BulkRequest,
    responses((
        status = 200, body = BulkResponse, description = "One result for each item, in the order of the items.",
        example = json!({"results": [{
            "kind": "app",
            "namespace": "shop",
            "name": "orders",
            "accepted": {"digest": "4f2a9c071be6d8534f2a9c071be6d8534f2a9c071be6d8534f2a9c071be6d853", "revoked": 0},
        }]}),
    )),
    extensions(("x-refusals" = json!(["invalid_request: items must have 1 to 500 items, not 0"]))),
))]
pub(super) async fn put_all(State(k8s): State<K8s>, mut call: ApiRequest) -> Answer {
    let actor = k8s.controller(&call).await?;
    call.read_rest().await?;
    let Items { items } = body(&call)?;
    let items = || items.items().map_err(|misfit| malformed(&misfit.in_member("items")));
    let count = items()?.count();
    if count == 0 || count > MAX_BULK_ITEMS {
        return Err(ApiError::invalid(format!(
            "items must have 1 to {MAX_BULK_ITEMS} items, not {count}"
        )));
    }
    let mut addresses = Vec::with_capacity(count);
    let mut puts = Vec::with_capacity(count);
    for (index, item) in items()?.enumerate() {
        let address = Address::read(item).map_err(|misfit| malformed(&misfit.in_item(index).in_member("items")))?;
        puts.push(address.write(item));
        addresses.push(address);
    }
    let ceilings = Arc::clone(&k8s.broker.config.scope_ceilings);
    let answers = write::put_all(&k8s.broker.store, puts, actor, ceilings).await?;
    let results = addresses
        .into_iter()
        .zip(answers)
        .map(|(Address { kind, namespace, name }, answer)| {
            let (accepted, problem) = match answer {
                Ok(accepted) => (Some(accepted), None),
                Err(refusal) => (None, Some(problem(&call, refusal))),
            };
            BulkResult {
                kind,
                namespace,
                name,
                accepted,
                problem,
            }
        })
        .collect();
    Ok(reply(StatusCode::OK, &BulkResponse { results }))
}

/// The refusal of one item, as complete as that of a whole request.
fn problem(call: &ApiRequest, refusal: WriteRefusal) -> Problem {
    let error = ApiError::from(K8sError::from(refusal));
    Problem {
        instance: call.path().into_owned(),
        request_id: call.request_id().to_owned(),
        ..error.problem().clone()
    }
}
