//! A broker that speaks the policy API and remembers what it was told; it can be made to fail by namespace.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use agentwrit_protocol::k8s::{
    Denial, DenialsResponse, EPOCH_HEADER, LivePod, MarkRequest, MarkResponse, PodEndedRequest, PolicyKind,
    PolicyListResponse, PolicySummary, PutApp, PutLaunchToken, PutPolicyResponse, RevokedResponse, WriteOrder,
};
use agentwrit_protocol::{ErrorCode, Problem, StoreMark};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;

/// How requests that concern a namespace fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 503, as when the store is away.
    Away,
    /// 400, as for a spec that the broker doesn't take.
    Refuses,
}

/// A removal that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    pub kind: PolicyKind,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub revoke: bool,
}

/// A policy as it was put.
#[derive(Debug, Clone)]
pub enum Held {
    App(PutApp),
    LaunchToken(PutLaunchToken),
}

#[derive(Debug, Default)]
pub struct Memory {
    pub epoch: String,
    pub lease_epoch: i64,
    pub policies: BTreeMap<(String, String), (PolicySummary, Held)>,
    pub puts: HashMap<String, usize>,
    pub removals: Vec<Removal>,
    pub ended: Vec<(String, PodEndedRequest)>,
    pub denials: Vec<Denial>,
    pub pods: Vec<LivePod>,
    pub faults: HashMap<String, Fault>,
    pub counts: HashMap<String, (i64, i64)>,
    pub looks: usize,
    /// Marks that the controller has shown, as it kept them.
    pub shown: Vec<Option<String>>,
}

#[derive(Debug, Clone, Default)]
pub struct Broker {
    memory: Arc<Mutex<Memory>>,
}

impl Broker {
    pub async fn start() -> (Self, SocketAddr) {
        let broker = Self::default();
        broker.memory().epoch = "store-1".into();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/v1/k8s/policies", get(list))
            .route(
                "/v1/k8s/policies/apps/{namespace}/{name}",
                put(put_app).delete(delete_app),
            )
            .route(
                "/v1/k8s/policies/launch-tokens/{namespace}/{name}",
                put(put_launch_token).delete(delete_launch_token),
            )
            .route("/v1/k8s/pods/{uid}/ended", post(ended))
            .route("/v1/k8s/mark", post(mark))
            .route("/v1/k8s/denials", get(denials))
            .with_state(broker.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (broker, address)
    }

    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap()
    }

    pub fn app(&self, namespace: &str, name: &str) -> Option<PutApp> {
        match &self
            .memory()
            .policies
            .get(&(namespace.into(), format!("app/{name}")))?
            .1
        {
            Held::App(put) => Some(put.clone()),
            Held::LaunchToken(_) => None,
        }
    }

    pub fn launch_token(&self, namespace: &str, name: &str) -> Option<PutLaunchToken> {
        match &self
            .memory()
            .policies
            .get(&(namespace.into(), format!("token/{name}")))?
            .1
        {
            Held::LaunchToken(put) => Some(put.clone()),
            Held::App(_) => None,
        }
    }

    pub fn fail(&self, namespace: &str, fault: Option<Fault>) {
        match fault {
            Some(fault) => self.memory().faults.insert(namespace.into(), fault),
            None => self.memory().faults.remove(namespace),
        };
    }

    pub fn removals_of(&self, namespace: &str) -> Vec<Removal> {
        let memory = self.memory();
        memory
            .removals
            .iter()
            .filter(|removal| removal.namespace == namespace)
            .cloned()
            .collect()
    }

    pub fn end_of(&self, uid: &str) -> Option<PodEndedRequest> {
        self.memory()
            .ended
            .iter()
            .find(|(ended, _)| ended == uid)
            .map(|(_, request)| request.clone())
    }
}

fn answer<T: serde::Serialize>(memory: &Memory, value: T) -> Response {
    ([(EPOCH_HEADER, memory.epoch.clone())], Json(value)).into_response()
}

fn refuse(problem: Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap();
    (status, Json(problem)).into_response()
}

/// The failures that every request of a namespace has in common.
fn fault(memory: &mut Memory, namespace: &str, order: Option<WriteOrder>) -> Option<Response> {
    match memory.faults.get(namespace) {
        Some(Fault::Away) => return Some(refuse(Problem::new(ErrorCode::Unavailable, "the store is away"))),
        Some(Fault::Refuses) => {
            return Some(refuse(Problem::new(
                ErrorCode::InvalidRequest,
                "spec: the broker doesn't like it",
            )));
        }
        None => {}
    }
    let order = order?;
    if order.lease_epoch < memory.lease_epoch {
        let mut problem = Problem::new(ErrorCode::StaleWriter, "a later writer came first");
        problem.current_epoch = Some(memory.lease_epoch);
        return Some(refuse(problem));
    }
    memory.lease_epoch = order.lease_epoch;
    None
}

async fn list(State(broker): State<Broker>) -> Response {
    let mut memory = broker.memory();
    memory.looks += 1;
    let policies = memory.policies.values().map(|(summary, _)| {
        let mut summary = summary.clone();
        if let Some((active, issued)) = memory.counts.get(&summary.namespace) {
            (summary.active_agents, summary.issued) = (*active, *issued);
        }
        summary
    });
    let list = PolicyListResponse {
        epoch: memory.epoch.clone(),
        lease_epoch: memory.lease_epoch,
        policies: policies.collect(),
        pods: memory.pods.clone(),
    };
    answer(&memory, list)
}

async fn mark(State(broker): State<Broker>, Json(request): Json<MarkRequest>) -> Response {
    let mut memory = broker.memory();
    memory.shown.push(Some(request.mark).filter(|mark| !mark.is_empty()));
    let mark = StoreMark {
        epoch: "0f".repeat(16),
        sequence: i64::try_from(memory.shown.len()).unwrap(),
        head: "a1".repeat(32),
    };
    let compared = MarkResponse { mark, restored: false };
    answer(&memory, compared)
}

async fn put_app(
    State(broker): State<Broker>,
    Path((namespace, name)): Path<(String, String)>,
    Json(put): Json<PutApp>,
) -> Response {
    let summary = PolicySummary {
        kind: PolicyKind::App,
        uid: put.uid.clone(),
        generation: put.generation,
        digest: put.digest(),
        order: put.order,
        app_id: Some(format!("app-{}", put.uid)),
        active_agents: 0,
        issued: 0,
        namespace,
        name,
    };
    broker.hold("app", summary, Held::App(put))
}

async fn put_launch_token(
    State(broker): State<Broker>,
    Path((namespace, name)): Path<(String, String)>,
    Json(put): Json<PutLaunchToken>,
) -> Response {
    let summary = PolicySummary {
        kind: PolicyKind::LaunchToken,
        uid: put.uid.clone(),
        generation: put.generation,
        digest: put.digest(),
        order: put.order,
        app_id: None,
        active_agents: 0,
        issued: 0,
        namespace,
        name,
    };
    broker.hold("token", summary, Held::LaunchToken(put))
}

#[derive(Debug, Deserialize)]
struct DeleteQuery {
    uid: String,
    lease_epoch: i64,
    sequence: i64,
    revoke: bool,
}

async fn delete_app(
    State(broker): State<Broker>,
    Path((namespace, name)): Path<(String, String)>,
    Query(query): Query<DeleteQuery>,
) -> Response {
    broker.remove(PolicyKind::App, namespace, name, &query)
}

async fn delete_launch_token(
    State(broker): State<Broker>,
    Path((namespace, name)): Path<(String, String)>,
    Query(query): Query<DeleteQuery>,
) -> Response {
    broker.remove(PolicyKind::LaunchToken, namespace, name, &query)
}

impl Broker {
    fn hold(&self, prefix: &str, summary: PolicySummary, held: Held) -> Response {
        let mut memory = self.memory();
        if let Some(response) = fault(&mut memory, &summary.namespace, Some(summary.order)) {
            return response;
        }
        *memory.puts.entry(summary.namespace.clone()).or_default() += 1;
        let response = PutPolicyResponse {
            digest: summary.digest.clone(),
            app_id: summary.app_id.clone(),
            revoked: 0,
        };
        let key = (summary.namespace.clone(), format!("{prefix}/{}", summary.name));
        memory.policies.insert(key, (summary, held));
        answer(&memory, response)
    }

    fn remove(&self, kind: PolicyKind, namespace: String, name: String, query: &DeleteQuery) -> Response {
        let mut memory = self.memory();
        let order = WriteOrder {
            lease_epoch: query.lease_epoch,
            sequence: query.sequence,
        };
        if let Some(response) = fault(&mut memory, &namespace, Some(order)) {
            return response;
        }
        let prefix = if kind == PolicyKind::App { "app" } else { "token" };
        let key = (namespace.clone(), format!("{prefix}/{name}"));
        if memory.policies.get(&key).is_some_and(|(held, _)| held.uid == query.uid) {
            memory.policies.remove(&key);
        }
        memory.removals.push(Removal {
            kind,
            namespace,
            name,
            uid: query.uid.clone(),
            revoke: query.revoke,
        });
        answer(&memory, RevokedResponse { revoked: 0 })
    }
}

async fn ended(
    State(broker): State<Broker>,
    Path(uid): Path<String>,
    Json(request): Json<PodEndedRequest>,
) -> Response {
    let mut memory = broker.memory();
    if let Some(response) = fault(&mut memory, &request.namespace, None) {
        return response;
    }
    memory.pods.retain(|pod| pod.uid != uid);
    memory.ended.push((uid, request));
    answer(&memory, RevokedResponse { revoked: 1 })
}

#[derive(Debug, Deserialize)]
struct After {
    after: i64,
}

async fn denials(State(broker): State<Broker>, Query(query): Query<After>) -> Response {
    let memory = broker.memory();
    let denials: Vec<Denial> = memory
        .denials
        .iter()
        .filter(|denial| denial.cursor > query.after)
        .cloned()
        .collect();
    let next = memory.denials.last().map_or(0, |denial| denial.cursor);
    answer(&memory, DenialsResponse { denials, next })
}
