//! Policies as the controller writes and reads them.

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
use crate::http::query::{Reader, parameters};
use crate::http::{ApiError, ApiRequest, reply};
use crate::service::k8s::error::{K8sError, WriteRefusal};
use crate::service::k8s::policy::input::{InputError, Write};
use crate::service::k8s::policy::write;
use crate::service::k8s::policy::{list, removal};

/// `PUT /v1/k8s/policies/apps/{namespace}/{name}`.
pub(super) async fn put_app(
    State(k8s): State<K8s>,
    Path((namespace, name)): Path<(String, String)>,
    call: ApiRequest,
) -> Answer {
    let writer = k8s.controller(&call).await?;
    let put: PutApp = body(&call)?;
    let write = Write::app(PolicyKey::app(&namespace, &name), put)?;
    Ok(reply(
        StatusCode::OK,
        &write::put(&k8s.broker.store, write, writer).await?,
    ))
}

/// `PUT /v1/k8s/policies/launch-tokens/{namespace}/{name}`.
pub(super) async fn put_launch_token(
    State(k8s): State<K8s>,
    Path((namespace, name)): Path<(String, String)>,
    call: ApiRequest,
) -> Answer {
    let writer = k8s.controller(&call).await?;
    let put: PutLaunchToken = body(&call)?;
    let write = Write::launch_token(PolicyKey::launch_token(&namespace, &name), put)?;
    Ok(reply(
        StatusCode::OK,
        &write::put(&k8s.broker.store, write, writer).await?,
    ))
}

/// `DELETE /v1/k8s/policies/apps/{namespace}/{name}`.
pub(super) async fn delete_app(
    State(k8s): State<K8s>,
    Path((namespace, name)): Path<(String, String)>,
    call: ApiRequest,
) -> Answer {
    delete(&k8s, PolicyKey::app(&namespace, &name), &call).await
}

/// `DELETE /v1/k8s/policies/launch-tokens/{namespace}/{name}`.
pub(super) async fn delete_launch_token(
    State(k8s): State<K8s>,
    Path((namespace, name)): Path<(String, String)>,
    call: ApiRequest,
) -> Answer {
    delete(&k8s, PolicyKey::launch_token(&namespace, &name), &call).await
}

async fn delete(k8s: &K8s, key: PolicyKey, call: &ApiRequest) -> Answer {
    let writer = k8s.controller(call).await?;
    let given = parameters(call.query(), Reader::RemovePolicy);
    let removed = removal::remove(&k8s.broker.store, key, &given, writer).await?;
    Ok(reply(StatusCode::OK, &removed))
}

/// `GET /v1/k8s/policies`.
pub(super) async fn list(State(k8s): State<K8s>, call: ApiRequest) -> Answer {
    k8s.controller(&call).await?;
    Ok(reply(StatusCode::OK, &list::list(&k8s.broker.store).await?))
}

/// `POST /v1/k8s/mark`.
pub(super) async fn mark(State(k8s): State<K8s>, call: ApiRequest) -> Answer {
    k8s.controller(&call).await?;
    let request: MarkRequest = body(&call)?;
    Ok(reply(
        StatusCode::OK,
        &list::compare_mark(&k8s.broker.store, &request).await?,
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

/// `PUT /v1/k8s/policies`: many writes in one request, each with a result of its own.
pub(super) async fn put_all(State(k8s): State<K8s>, mut call: ApiRequest) -> Answer {
    let writer = k8s.controller(&call).await?;
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
    let answers = write::put_all(&k8s.broker.store, puts, writer).await?;
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
