//! The attestation and policy API under `/v1/k8s` (`kubernetes-api.md` §4).

mod policies;

use std::sync::Arc;

use agentwrit_protocol::ErrorCode;
use agentwrit_protocol::excerpt::excerpt;
use agentwrit_protocol::k8s::{
    LivePod, MarkRequest, MarkResponse, PodEndedRequest, PodLaunchRequest, PutApp, PutLaunchToken, PutPolicyResponse,
    WriteOrder,
};
use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post, put};
use http::StatusCode;
use serde::Deserialize;

use crate::attest::{Attestation, AttestorError, DenialKind};
use crate::http::error::ApiError;
use crate::http::json::Trailing;
use crate::http::query::{Reader, parameters};
use crate::http::{ApiRequest, AppState, authorization, authorize, json};
use crate::service::attestation::{self, Incoming, K8sError};
use crate::service::authorize::Requirement;
use crate::service::denials::ReadDenials;
use crate::service::pods::{EndPod, ReleasePod};
use crate::service::policy::{ApplyPolicies, RemovePolicy, WriteRefusal, Writer};
use crate::service::policy_input::{InputError, Write, check_key, check_order, check_uid};
use crate::service::policy_list::ListPolicies;
use crate::store::policy::PolicyKey;

/// State of these handlers: attestation is there, or the routes aren't.
#[derive(Clone)]
pub(super) struct K8s {
    pub(super) broker: AppState,
    gate: Arc<Attestation>,
}

pub(super) type Answer = Result<Response, ApiError>;

/// The routes; none unless attestation is configured.
pub fn routes(broker: &AppState) -> Router<AppState> {
    let Some(gate) = broker.attestation.clone() else {
        return Router::new();
    };
    let state = K8s {
        broker: Arc::clone(broker),
        gate,
    };
    Router::new()
        .route("/v1/k8s/policies", get(list).put(policies::put_all))
        .route(
            "/v1/k8s/policies/apps/{namespace}/{name}",
            put(put_app).delete(delete_app),
        )
        .route(
            "/v1/k8s/policies/launch-tokens/{namespace}/{name}",
            put(put_launch_token).delete(delete_launch_token),
        )
        .route("/v1/k8s/mark", post(mark))
        .route("/v1/k8s/launch-tokens", post(launch))
        .route("/v1/k8s/pods/{uid}/ended", post(end_pod))
        .route("/v1/k8s/pods/{uid}/release", post(release_pod))
        .route("/v1/k8s/denials", get(denials))
        .with_state(state)
}

impl K8s {
    pub(super) async fn controller(&self, call: &ApiRequest) -> Result<Writer, ApiError> {
        let writer = attestation::controller(&self.broker, &self.gate, incoming(call)).await?;
        call.connection.trust();
        Ok(writer)
    }
}

fn incoming(call: &ApiRequest) -> Incoming<'_> {
    Incoming {
        authorization: authorization::text(&call.headers),
        source: call.source,
    }
}

/// A body of this API: what doesn't fit is named.
pub(super) fn body<'a, T: Deserialize<'a>>(call: &'a ApiRequest) -> Result<T, InputError> {
    json::read_named(&call.body, Trailing::Ignored).map_err(|error| InputError::new(error.to_string()))
}

async fn put_app(State(k8s): State<K8s>, Path((namespace, name)): Path<(String, String)>, call: ApiRequest) -> Answer {
    let writer = k8s.controller(&call).await?;
    let put: PutApp = body(&call).map_err(K8sError::from)?;
    let write = Write::app(PolicyKey::app(&namespace, &name), put).map_err(K8sError::from)?;
    put_one(&k8s, write, writer).await
}

async fn put_launch_token(
    State(k8s): State<K8s>,
    Path((namespace, name)): Path<(String, String)>,
    call: ApiRequest,
) -> Answer {
    let writer = k8s.controller(&call).await?;
    let put: PutLaunchToken = body(&call).map_err(K8sError::from)?;
    let write = Write::launch_token(PolicyKey::launch_token(&namespace, &name), put).map_err(K8sError::from)?;
    put_one(&k8s, write, writer).await
}

async fn put_one(k8s: &K8s, write: Write, writer: Writer) -> Answer {
    let apply = ApplyPolicies {
        writes: vec![Ok(write)],
        writer,
    };
    let answers = k8s.broker.store.commit(apply).await?;
    let written: PutPolicyResponse = answers
        .into_iter()
        .next()
        .ok_or_else(|| ApiError::internal("the write was not answered"))?
        .map_err(K8sError::from)?;
    Ok(json::reply(StatusCode::OK, &written))
}

async fn delete_app(
    State(k8s): State<K8s>,
    Path((namespace, name)): Path<(String, String)>,
    call: ApiRequest,
) -> Answer {
    delete(&k8s, PolicyKey::app(&namespace, &name), &call).await
}

async fn delete_launch_token(
    State(k8s): State<K8s>,
    Path((namespace, name)): Path<(String, String)>,
    call: ApiRequest,
) -> Answer {
    delete(&k8s, PolicyKey::launch_token(&namespace, &name), &call).await
}

async fn delete(k8s: &K8s, key: PolicyKey, call: &ApiRequest) -> Answer {
    let writer = k8s.controller(call).await?;
    let remove = removal(key, call.query(), writer).map_err(K8sError::from)?;
    let removed = k8s.broker.store.commit(remove).await?.map_err(K8sError::from)?;
    Ok(json::reply(StatusCode::OK, &removed))
}

fn removal(key: PolicyKey, query: &str, writer: Writer) -> Result<RemovePolicy, InputError> {
    check_key(&key)?;
    let given = parameters(query, Reader::RemovePolicy);
    let text = |name: &str| {
        let found = given
            .iter()
            .rev()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.as_str());
        found.ok_or_else(|| InputError::new(format!("query parameter {name} is required")))
    };
    let number = |name: &str| {
        let value = text(name)?;
        value.parse::<i64>().map_err(|_| {
            InputError::new(format!(
                "query parameter {name} must be a whole number, not {:?}",
                excerpt(value)
            ))
        })
    };
    let uid = text("uid")?.to_owned();
    check_uid(&uid)?;
    let order = WriteOrder {
        lease_epoch: number("lease_epoch")?,
        sequence: number("sequence")?,
    };
    check_order(order)?;
    let revoke = match text("revoke")? {
        "true" => true,
        "false" => false,
        other => {
            return Err(InputError::new(format!(
                "query parameter revoke must be true or false, not {:?}",
                excerpt(other)
            )));
        }
    };
    Ok(RemovePolicy {
        key,
        uid,
        order,
        revoke,
        writer,
    })
}

async fn list(State(k8s): State<K8s>, call: ApiRequest) -> Answer {
    k8s.controller(&call).await?;
    let listed = k8s.broker.store.read(ListPolicies).await?;
    Ok(json::reply(StatusCode::OK, &listed))
}

async fn mark(State(k8s): State<K8s>, call: ApiRequest) -> Answer {
    k8s.controller(&call).await?;
    let request: MarkRequest = body(&call).map_err(K8sError::from)?;
    let remembered = Some(request.mark.as_str()).filter(|mark| !mark.is_empty());
    let compared = k8s.broker.store.compare(remembered).await?;
    let answer = MarkResponse {
        mark: compared.mark,
        restored: compared.restored,
    };
    Ok(json::reply(StatusCode::OK, &answer))
}

async fn launch(State(k8s): State<K8s>, call: ApiRequest) -> Answer {
    let request = || body::<PodLaunchRequest>(&call);
    let launched = attestation::launch(&k8s.broker, &k8s.gate, incoming(&call), request).await?;
    Ok(json::reply(StatusCode::CREATED, &launched))
}

async fn end_pod(State(k8s): State<K8s>, Path(uid): Path<String>, call: ApiRequest) -> Answer {
    let writer = k8s.controller(&call).await?;
    let ended = ending(uid, &call, writer).map_err(K8sError::from)?;
    let revoked = k8s.broker.store.commit(ended).await?;
    Ok(json::reply(StatusCode::OK, &revoked))
}

fn ending(uid: String, call: &ApiRequest, writer: Writer) -> Result<EndPod, InputError> {
    check_uid(&uid)?;
    let request: PodEndedRequest = body(call)?;
    for (field, value, most) in [
        ("namespace", &request.namespace, 63),
        ("name", &request.name, 253),
        ("reason", &request.reason, 256),
    ] {
        if value.is_empty() || value.len() > most || value.chars().any(char::is_control) {
            return Err(InputError::new(format!(
                "{field} must be 1 to {most} bytes without control characters"
            )));
        }
    }
    Ok(EndPod {
        pod: LivePod {
            uid,
            namespace: request.namespace,
            name: request.name,
        },
        reason: request.reason,
        actor: writer.actor,
        source: writer.source,
    })
}

async fn release_pod(State(k8s): State<K8s>, Path(uid): Path<String>, call: ApiRequest) -> Answer {
    let person = authorize(&k8s.broker, &call, Requirement::admin("admin:revoke:*")).await?;
    check_uid(&uid).map_err(K8sError::from)?;
    let release = ReleasePod {
        pod_uid: uid,
        actor: person.claims.sub.clone(),
        source: call.source_text(),
    };
    let released = k8s.broker.store.commit(release).await?;
    Ok(json::reply(StatusCode::OK, &released))
}

async fn denials(State(k8s): State<K8s>, call: ApiRequest) -> Answer {
    k8s.controller(&call).await?;
    let given = parameters(call.query(), Reader::Denials);
    let after =
        match given.iter().rev().find(|(key, _)| *key == "after") {
            None => 0,
            Some((_, value)) => value.parse::<i64>().ok().filter(|after| *after >= 0).ok_or_else(|| {
                ApiError::invalid("query parameter after must be a cursor: a whole number, 0 or more")
            })?,
        };
    let answer = k8s.broker.store.read(ReadDenials { after }).await?;
    Ok(json::reply(StatusCode::OK, &answer))
}

impl From<K8sError> for ApiError {
    fn from(error: K8sError) -> Self {
        match error {
            K8sError::Input(InputError { code, detail })
            | K8sError::Write(WriteRefusal::Input(InputError { code, detail })) => Self::new(code, detail),
            K8sError::Refused(refusal) => {
                let error = Self::new(refusal.code, refusal.detail);
                if refusal.code != ErrorCode::RateLimited {
                    return error;
                }
                let launches = refusal.error_kind == DenialKind::PodRateLimited.as_str();
                error.retry_after(if launches { 10 } else { 1 })
            }
            K8sError::Write(stale @ WriteRefusal::Stale { current_epoch }) => {
                Self::new(ErrorCode::StaleWriter, stale.to_string()).current_epoch(current_epoch)
            }
            K8sError::Write(removed @ WriteRefusal::Removed) => Self::new(ErrorCode::Conflict, removed.to_string()),
            K8sError::Write(full @ WriteRefusal::NoRoom) => {
                Self::new(ErrorCode::Unavailable, full.to_string()).retry_after(1)
            }
            K8sError::Attestor(error) => Self::from(error),
            K8sError::Store(error) => Self::from(error),
            K8sError::Entropy(error) => Self::from(error),
        }
    }
}

impl From<AttestorError> for ApiError {
    /// Whatever the cause: not the caller's fault, so never a refusal.
    fn from(_: AttestorError) -> Self {
        Self::new(
            ErrorCode::Unavailable,
            "the Kubernetes API server could not be asked; nothing was changed",
        )
        .retry_after(1)
    }
}
