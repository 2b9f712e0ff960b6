//! Objects that tests make, and what they read off them.

use agentwrit_crds::{AgentApp, LaunchToken};
use agentwrit_protocol::Clock;
use agentwrit_protocol::system::SystemClock;
use http::{Method, Request};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::world::{World, wait};

pub fn app_json(scopes: &[&str]) -> Value {
    json!({
        "apiVersion": "agentwrit.io/v1alpha1", "kind": "AgentApp",
        "metadata": {"name": "orders"}, "spec": {"scopes": scopes},
    })
}

pub fn token_json(scopes: &[&str]) -> Value {
    json!({
        "apiVersion": "agentwrit.io/v1alpha1", "kind": "LaunchToken",
        "metadata": {"name": "reader"},
        "spec": {
            "appRef": {"name": "orders"}, "agentName": "order-reader", "allowedScopes": scopes,
            "serviceAccountNames": ["default"],
        },
    })
}

pub async fn create_app(world: &World, scopes: &[&str]) -> AgentApp {
    let app = serde_json::from_value(app_json(scopes)).unwrap();
    world.apps().create(&PostParams::default(), &app).await.unwrap()
}

pub async fn create_token(world: &World, scopes: &[&str]) -> LaunchToken {
    let token = serde_json::from_value(token_json(scopes)).unwrap();
    world
        .launch_tokens()
        .create(&PostParams::default(), &token)
        .await
        .unwrap()
}

fn ready(conditions: Vec<Condition>) -> Option<Condition> {
    conditions.into_iter().find(|condition| condition.type_ == "Ready")
}

pub async fn app_condition(world: &World) -> Option<Condition> {
    ready(world.apps().get_opt("orders").await.unwrap()?.status?.conditions)
}

pub async fn token_condition(world: &World) -> Option<Condition> {
    ready(
        world
            .launch_tokens()
            .get_opt("reader")
            .await
            .unwrap()?
            .status?
            .conditions,
    )
}

/// Waits until the app's condition has this reason.
pub async fn app_becomes(world: &World, reason: &str) -> Condition {
    let what = format!("AgentApp orders becomes {reason}");
    wait(&what, || async {
        app_condition(world)
            .await
            .filter(|condition| condition.reason == reason)
    })
    .await
}

/// Waits until the token's condition has this reason.
pub async fn token_becomes(world: &World, reason: &str) -> Condition {
    let what = format!("LaunchToken reader becomes {reason}");
    wait(&what, || async {
        token_condition(world)
            .await
            .filter(|condition| condition.reason == reason)
    })
    .await
}

/// Waits for an Event of this reason in the test's namespace.
pub async fn event(world: &World, reason: &str) -> Event {
    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.namespace);
    wait(&format!("an Event {reason}"), || async {
        let all = events.list(&kube::api::ListParams::default()).await.unwrap();
        all.items
            .into_iter()
            .find(|event| event.reason.as_deref() == Some(reason))
    })
    .await
}

/// A pod that asks for injection; it passes Pod Security `restricted`.
pub fn pod_json() -> Value {
    json!({
        "metadata": {
            "name": "shop",
            "labels": {"agentwrit.io/inject": "true"},
            "annotations": {"agentwrit.io/launch-token": "reader"},
        },
        "spec": {
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "app", "image": "app",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}

pub fn pods(world: &World) -> Api<Pod> {
    Api::namespaced(world.client.clone(), &world.namespace)
}

pub async fn try_create_pod(world: &World, pod: Value) -> Result<Pod, kube::Error> {
    pods(world)
        .create(&PostParams::default(), &serde_json::from_value(pod).unwrap())
        .await
}

pub async fn create_pod(world: &World, pod: Value) -> Pod {
    try_create_pod(world, pod).await.unwrap()
}

/// Sends an object to the API server as `kubectl` does, and answers the warnings that it would show.
pub async fn warnings(world: &World, method: Method, path: &str, object: &Value) -> Result<Vec<String>, String> {
    let content = if method == Method::PATCH {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("Content-Type", content)
        .body(object.to_string().into_bytes().into())
        .unwrap();
    let response = world.client.send(request).await.unwrap();
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        let status: Value = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap();
        return Err(status["message"].as_str().unwrap().to_owned());
    }
    let values = head.headers.get_all("warning").into_iter();
    Ok(values
        .map(|value| value.to_str().unwrap().replace("\\\"", "\""))
        .collect())
}

/// As many labels or annotations as are still stored: the keys are short, as the API server counts their bytes.
pub fn very_many() -> Value {
    let keys = (0..60_000).map(|number| (format!("{number:x}"), json!("")));
    Value::Object(keys.collect())
}

/// How much longer one request takes than another, which must have the same outcome; by the faster one of two each.
pub async fn times_slower(
    world: &World,
    method: &Method,
    (path, object): (&str, &Value),
    (other_path, other): (&str, &Value),
) -> f64 {
    let mut fastest = [f64::INFINITY; 2];
    for _ in 0..2 {
        for (fastest, (path, object)) in fastest.iter_mut().zip([(path, object), (other_path, other)]) {
            let started = SystemClock.monotonic();
            warnings(world, method.clone(), path, object).await.unwrap();
            *fastest = fastest.min(SystemClock.monotonic().saturating_sub(started).as_secs_f64());
        }
    }
    fastest[0] / fastest[1]
}

/// The sentence of a refusal by the API server.
pub fn sentence<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> String {
    match result {
        Err(kube::Error::Api(status)) => status.message.clone(),
        other => panic!("not refused: {other:?}"),
    }
}
