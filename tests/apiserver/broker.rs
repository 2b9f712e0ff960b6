//! A broker that speaks the policy API and remembers what it was told; it can be made to fail by namespace.

mod policies;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use agentwrit_client::{BrokerClient, ClientConfig, Identity};
use agentwrit_protocol::k8s::{
    AppSpec, Denial, DenialsResponse, EPOCH_HEADER, LivePod, MarkRequest, MarkResponse, PodEndedRequest, PolicyField,
    PolicyKind, PolicyListResponse, PolicyState, PolicySummary, PutApp, PutLaunchToken, PutPolicyResponse,
    RevokedResponse, WriteOrder,
};
use agentwrit_protocol::signing_keys::wire::SigningKeysResponse;
use agentwrit_protocol::{ErrorCode, Problem, StoreMark};
use agentwrit_testkit::{Call, FakeBroker, FakeReply};
use parking_lot::{Mutex, MutexGuard};
use serde::de::DeserializeOwned;

use policies::{put_all, put_app, put_launch_token};

/// How requests that concern a namespace fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 503, as when the store is away.
    Away,
    /// 400, as for a spec that the broker doesn't take.
    Refuses,
    /// 403, as for scopes that the namespace may not have.
    BeyondCeiling,
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

/// A write of a policy as it arrived, accepted or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    pub namespace: String,
    /// `app/NAME` or `token/NAME`.
    pub policy: String,
    pub generation: i64,
    pub order: WriteOrder,
    pub accepted: bool,
}

/// Called at the next write of a policy, before it is answered.
pub struct Trap(pub Box<dyn FnOnce(&mut Memory) + Send>);

impl std::fmt::Debug for Trap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trap")
    }
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
    /// Every request fails, whichever namespace it concerns.
    pub away: bool,
    pub counts: HashMap<String, (i64, i64)>,
    pub looks: usize,
    pub keys: SigningKeysResponse,
    pub writes: Vec<Write>,
    pub trap: Option<Trap>,
    /// Marks that the controller has shown, as it kept them.
    pub shown: Vec<Option<String>>,
}

impl Memory {
    pub fn hold_pod(&mut self, namespace: &str, name: &str) -> String {
        let uid = format!("{name}-{namespace}");
        self.pods.push(LivePod {
            uid: uid.as_str().into(),
            namespace: namespace.into(),
            name: name.into(),
        });
        uid
    }

    /// What a look of the controller shows; counts it.
    fn list(&mut self) -> PolicyListResponse {
        self.looks += 1;
        let policies = self.policies.values().map(|(summary, _)| {
            let mut summary = summary.clone();
            if let Some((active, issued)) = self.counts.get(&summary.namespace) {
                (summary.active_agents, summary.issued) = (*active, *issued);
            }
            summary
        });
        PolicyListResponse {
            fields: PolicyField::ALL.iter().map(|field| field.as_str().to_owned()).collect(),
            epoch: self.epoch.clone(),
            lease_epoch: self.lease_epoch,
            policies: policies.collect(),
            pods: self.pods.clone(),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Broker {
    memory: Arc<Mutex<Memory>>,
}

impl Broker {
    pub async fn start() -> (Self, SocketAddr) {
        let broker = Self::default();
        broker.memory().epoch = "store-1".into();
        let answering = broker.clone();
        let server = FakeBroker::start(move |call| answering.answer(call)).await;
        (broker, server.address)
    }

    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock()
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

    /// The policies that it holds of a namespace.
    pub fn policies_of(&self, namespace: &str) -> Vec<String> {
        let memory = self.memory();
        let of_it = memory.policies.keys().filter(|(of, _)| of == namespace);
        of_it.map(|(_, policy)| policy.clone()).collect()
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

    /// A pod of this namespace that the cluster doesn't have; its UID.
    pub fn hold_pod(&self, namespace: &str, name: &str) -> String {
        self.memory().hold_pod(namespace, name)
    }

    pub fn end_of(&self, uid: &str) -> Option<PodEndedRequest> {
        self.memory()
            .ended
            .iter()
            .find(|(ended, _)| ended == uid)
            .map(|(_, request)| request.clone())
    }
}

fn answer<T: serde::Serialize>(memory: &Memory, value: T) -> FakeReply {
    reply(200, value).header(EPOCH_HEADER, memory.epoch.clone())
}

fn refuse(problem: Problem) -> FakeReply {
    reply(problem.status, problem)
}

fn away() -> FakeReply {
    refuse(Problem::new(ErrorCode::Unavailable, "the store is away"))
}

fn reply<T: serde::Serialize>(status: u16, value: T) -> FakeReply {
    FakeReply::json(status, &serde_json::to_value(value).unwrap()).header("content-type", "application/json")
}

fn body<T: DeserializeOwned>(call: &Call) -> T {
    serde_json::from_str(&call.body).unwrap_or_else(|error| panic!("{error}: {call:?}"))
}

/// A number of the query.
fn number(call: &Call, name: &str) -> i64 {
    text(call, name).parse().unwrap()
}

/// A text of the query; none that the controller sends needs to be unescaped.
fn text<'a>(call: &'a Call, name: &str) -> &'a str {
    let pairs = call.query.split('&').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(given, _)| *given == name).map(|(_, value)| value);
    values.next().unwrap_or_else(|| panic!("no {name} in {call:?}"))
}

/// The failures that every request of a namespace has in common.
fn fault(memory: &mut Memory, namespace: &str, order: Option<WriteOrder>) -> Option<FakeReply> {
    match memory.faults.get(namespace) {
        Some(Fault::Away) => return Some(away()),
        Some(Fault::Refuses) => {
            return Some(refuse(Problem::new(
                ErrorCode::InvalidRequest,
                "spec: the broker doesn't like it",
            )));
        }
        Some(Fault::BeyondCeiling) => {
            return Some(refuse(Problem::new(
                ErrorCode::ScopeViolation,
                "spec.scopes: write:orders:1: beyond the ceiling of the namespace",
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

fn list(broker: &Broker) -> FakeReply {
    let mut memory = broker.memory();
    let list = memory.list();
    answer(&memory, list)
}

fn mark(broker: &Broker, request: MarkRequest) -> FakeReply {
    let mut memory = broker.memory();
    memory.shown.push(Some(request.mark).filter(|mark| !mark.is_empty()));
    let compared = MarkResponse {
        mark: StoreMark {
            epoch: "0f".repeat(16),
            sequence: i64::try_from(memory.shown.len()).unwrap(),
            head: "a1".repeat(32),
        },
        restored: false,
        list: request.list.then(|| memory.list()),
    };
    answer(&memory, compared)
}

impl Broker {
    fn answer(&self, call: &Call) -> FakeReply {
        if self.memory().away {
            return away();
        }
        let path: Vec<&str> = call.path.trim_start_matches("/v1/k8s/").split('/').collect();
        let owned = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
        match (call.method.as_str(), path.as_slice()) {
            ("GET", ["policies"]) => list(self),
            ("PUT", ["policies"]) => put_all(self, &call.json()),
            ("PUT", ["policies", "apps", namespace, name]) => {
                let (namespace, name) = owned(namespace, name);
                put_app(self, namespace, name, body(call))
            }
            ("PUT", ["policies", "launch-tokens", namespace, name]) => {
                let (namespace, name) = owned(namespace, name);
                put_launch_token(self, namespace, name, body(call))
            }
            ("DELETE", ["policies", kind, namespace, name]) => {
                let kind = match *kind {
                    "apps" => PolicyKind::App,
                    "launch-tokens" => PolicyKind::LaunchToken,
                    other => panic!("no policies are {other}"),
                };
                let (namespace, name) = owned(namespace, name);
                self.remove(kind, namespace, name, call)
            }
            ("POST", ["pods", uid, "ended"]) => ended(self, (*uid).to_owned(), body(call)),
            ("POST", ["mark"]) => mark(self, body(call)),
            ("GET", ["denials"]) => denials(self, number(call, "after")),
            ("GET", ["signing-keys"]) => {
                let memory = self.memory();
                answer(&memory, &memory.keys)
            }
            _ => FakeReply::text(404, ""),
        }
    }

    fn hold(&self, prefix: &str, summary: PolicySummary, held: Held) -> FakeReply {
        let mut memory = self.memory();
        if let Some(trap) = memory.trap.take() {
            (trap.0)(&mut memory);
        }
        let refusal = fault(&mut memory, &summary.namespace, Some(summary.order));
        memory.writes.push(Write {
            namespace: summary.namespace.clone(),
            policy: format!("{prefix}/{}", summary.name),
            generation: summary.generation,
            order: summary.order,
            accepted: refusal.is_none(),
        });
        if let Some(response) = refusal {
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

    fn remove(&self, kind: PolicyKind, namespace: String, name: String, call: &Call) -> FakeReply {
        let mut memory = self.memory();
        let order = WriteOrder {
            lease_epoch: number(call, "lease_epoch"),
            sequence: number(call, "sequence"),
        };
        if let Some(response) = fault(&mut memory, &namespace, Some(order)) {
            return response;
        }
        let prefix = if kind == PolicyKind::App { "app" } else { "token" };
        let key = (namespace.clone(), format!("{prefix}/{name}"));
        if memory
            .policies
            .get(&key)
            .is_some_and(|(held, _)| held.uid == text(call, "uid"))
        {
            memory.policies.remove(&key);
        }
        memory.removals.push(Removal {
            kind,
            namespace,
            name,
            uid: text(call, "uid").to_owned(),
            revoke: text(call, "revoke").parse().unwrap(),
        });
        answer(&memory, RevokedResponse { revoked: 0 })
    }
}

fn ended(broker: &Broker, uid: String, request: PodEndedRequest) -> FakeReply {
    let mut memory = broker.memory();
    if let Some(response) = fault(&mut memory, &request.namespace, None) {
        return response;
    }
    memory.pods.retain(|pod| pod.uid.as_str() != uid);
    memory.ended.push((uid, request));
    answer(&memory, RevokedResponse { revoked: 1 })
}

fn denials(broker: &Broker, after: i64) -> FakeReply {
    let memory = broker.memory();
    let denials: Vec<Denial> = memory
        .denials
        .iter()
        .filter(|denial| denial.cursor > after)
        .cloned()
        .collect();
    let next = memory.denials.last().map_or(0, |denial| denial.cursor);
    answer(&memory, DenialsResponse { denials, next })
}

/// Every call of the client's, without an API server.
#[tokio::test]
async fn the_clients_calls_are_understood() {
    let (broker, address) = Broker::start().await;
    let client = BrokerClient::new(ClientConfig {
        identity: Some(Identity::Token("the-controllers-own-token".into())),
        ..ClientConfig::new(format!("http://{address}"))
    });
    let client = client.unwrap();
    let order = |lease_epoch| WriteOrder {
        lease_epoch,
        sequence: 1,
    };
    let put = |lease_epoch| PutApp {
        uid: "u".into(),
        generation: 1,
        order: order(lease_epoch),
        state: PolicyState::Ready,
        reason: None,
        spec: AppSpec {
            scopes: vec!["read:orders:*".into()],
            max_agent_ttl_seconds: 3600,
            audiences: Vec::new(),
            delegation_namespaces: Vec::new(),
            client: None,
        },
    };
    let written = client.put_app("shop", "orders", &put(2)).await.unwrap();
    assert_eq!(written.value.digest, put(2).digest());
    assert_eq!(broker.app("shop", "orders").unwrap(), put(2));
    assert!(
        client.put_app("shop", "orders", &put(1)).await.is_err(),
        "a stale writer"
    );
    assert_eq!(client.list_policies().await.unwrap().value.policies[0].name, "orders");
    broker.fail("shop", Some(Fault::Away));
    assert!(client.put_app("shop", "orders", &put(2)).await.is_err());
    broker.fail("shop", None);
    let uid = "u".into();
    let removed = client.delete_policy(PolicyKind::App, "shop", "orders", &uid, order(2), true);
    removed.await.unwrap();
    assert!(broker.removals_of("shop")[0].revoke && broker.app("shop", "orders").is_none());
    let mark = MarkRequest {
        mark: "x".into(),
        list: true,
    };
    let compared = client.mark(&mark).await.unwrap().value;
    assert!(!compared.restored && compared.list.unwrap().policies.is_empty());
    assert_eq!(client.denials(3).await.unwrap().value.next, 0);
    let end = PodEndedRequest {
        namespace: "shop".into(),
        name: "reader".into(),
        reason: "deleted".into(),
    };
    client.pod_ended(&"u1".into(), &end).await.unwrap();
    assert_eq!(broker.end_of("u1").unwrap().name, end.name);
}
