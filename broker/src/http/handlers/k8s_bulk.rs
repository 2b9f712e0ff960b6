//! `PUT /v1/k8s/policies`: many writes in one request, each with a result of its own.

use agentwrit_protocol::Problem;
use agentwrit_protocol::k8s::{BulkItem, BulkResponse, BulkResult, MAX_BULK_ITEMS, PolicyKind};
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::k8s::{Answer, K8s};
use crate::http::error::ApiError;
use crate::http::{Call, json};
use crate::service::attestation::K8sError;
use crate::service::policy::{ApplyPolicies, WriteRefusal};
use crate::service::policy_input::{InputError, Write};
use crate::store::policy::PolicyKey;

/// The items before they are looked at: one that is malformed spoils no other.
#[derive(Deserialize)]
struct Items {
    items: Vec<Value>,
}

/// What a result needs even of a malformed item.
#[derive(Deserialize)]
struct Address {
    kind: PolicyKind,
    namespace: String,
    name: String,
}

pub(super) async fn put_all(State(k8s): State<K8s>, mut call: Call) -> Answer {
    let writer = k8s.controller(&call).await?;
    call.read_rest().await?;
    let Items { items } = call.json()?;
    if items.is_empty() || items.len() > MAX_BULK_ITEMS {
        let count = items.len();
        return Err(ApiError::invalid(format!(
            "items must have 1 to {MAX_BULK_ITEMS} items, not {count}"
        )));
    }
    let mut addresses = Vec::with_capacity(items.len());
    let mut puts = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let address = Address::deserialize(&item).map_err(|error| {
            ApiError::invalid(format!(
                "items[{index}]: {error}; kind, namespace and name are required"
            ))
        })?;
        addresses.push(address);
        puts.push(write(item));
    }
    let answers = k8s.broker.store.commit(ApplyPolicies { writes: puts, writer }).await?;
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
    Ok(json::reply(StatusCode::OK, &BulkResponse { results }))
}

/// The refusal of one item, as complete as that of a whole request.
fn problem(call: &Call, refusal: WriteRefusal) -> Problem {
    let error = ApiError::from(K8sError::from(refusal));
    Problem {
        instance: call.path().into_owned(),
        request_id: call.request_id.to_string(),
        ..error.problem().clone()
    }
}

fn write(item: Value) -> Result<Write, InputError> {
    match BulkItem::deserialize(item) {
        Ok(BulkItem::App { namespace, name, put }) => Write::app(PolicyKey::app(&namespace, &name), put),
        Ok(BulkItem::LaunchToken { namespace, name, put }) => {
            Write::launch_token(PolicyKey::launch_token(&namespace, &name), put)
        }
        Err(error) => Err(InputError::new(format!("malformed item: {error}"))),
    }
}
