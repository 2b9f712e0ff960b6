//! Writes of policies, one by one and many at once.

use agentwrit_protocol::k8s::{PolicyKind, PolicySummary, PutApp, PutLaunchToken};
use agentwrit_testkit::FakeReply;
use serde_json::{Value, json};

use super::{Broker, Held, answer};

pub(super) fn put_app(broker: &Broker, namespace: String, name: String, put: PutApp) -> FakeReply {
    let summary = PolicySummary {
        kind: PolicyKind::App,
        uid: put.uid.clone(),
        generation: put.generation,
        digest: put.digest(),
        order: put.order,
        app_id: Some(format!("app-{}", put.uid)),
        client: put.spec.client.clone(),
        active_agents: 0,
        issued: 0,
        namespace,
        name,
    };
    broker.hold("app", summary, Held::App(put))
}

pub(super) fn put_launch_token(broker: &Broker, namespace: String, name: String, put: PutLaunchToken) -> FakeReply {
    let summary = PolicySummary {
        kind: PolicyKind::LaunchToken,
        uid: put.uid.clone(),
        generation: put.generation,
        digest: put.digest(),
        order: put.order,
        app_id: None,
        client: None,
        active_agents: 0,
        issued: 0,
        namespace,
        name,
    };
    broker.hold("token", summary, Held::LaunchToken(put))
}

/// Many writes at once: each is answered as if it had come by itself.
pub(super) fn put_all(broker: &Broker, body: &Value) -> FakeReply {
    let put = |item: &Value| {
        let text = |name: &str| item[name].as_str().unwrap().to_owned();
        let (namespace, name) = (text("namespace"), text("name"));
        let answered = match item["kind"].as_str() {
            Some("app") => put_app(broker, namespace, name, serde_json::from_value(item.clone()).unwrap()),
            _ => put_launch_token(broker, namespace, name, serde_json::from_value(item.clone()).unwrap()),
        };
        let member = if answered.status == 200 { "accepted" } else { "problem" };
        let answer: Value = serde_json::from_str(&answered.body).unwrap();
        json!({"kind": item["kind"], "namespace": item["namespace"], "name": item["name"], member: answer})
    };
    let results: Vec<Value> = body["items"].as_array().unwrap().iter().map(put).collect();
    answer(&broker.memory(), json!({"results": results}))
}
