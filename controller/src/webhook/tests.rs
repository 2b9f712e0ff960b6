//! Tests of the webhook's HTTP interface: requests of the API server, and of others.

use std::io::Write;

use agentwrit_protocol::clock::ManualClock;
use agentwrit_server::Connection;
use axum::body::Body;
use axum::extract::Request as HttpRequest;
use kube::runtime::reflector;
use kube::runtime::watcher::Event;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::http::Routes;

/// What the sidecars of the tests are made of.
pub(super) fn settings() -> SidecarSettings {
    SidecarSettings {
        image: "registry.example/agentwrit-sidecar:1".into(),
        pull_policy: "IfNotPresent".into(),
        uid: Some(64512),
        broker_url: "https://broker:8443".into(),
        audience: "agentwrit://a/b".into(),
        resources: crate::webhook::resources::DEFAULT.parse().unwrap(),
        guaranteed_cpu: "100m".parse().unwrap(),
        start_gate: crate::webhook::StartGate::Probe,
    }
}

/// A webhook that knows these namespaces, and its clock.
fn webhook(namespaces: &[Value]) -> (Arc<Webhook>, Arc<ManualClock>) {
    let (store, mut writer) = reflector::store();
    for namespace in namespaces {
        let namespace = serde_json::from_value(json!({"metadata": namespace})).unwrap();
        writer.apply_watcher_event(&Event::Apply(namespace));
    }
    // The sender is gone: nothing comes later, so no request waits.
    let (_, applied) = watch::channel(());
    let clock = Arc::new(ManualClock::at(1_000_000));
    let webhook = Webhook::new(
        settings(),
        "agentwrit-system".into(),
        Namespaces::new(store, applied),
        Arc::default(),
        reflector::store().0,
        clock.clone(),
        Arc::new(Metrics::new().unwrap()),
    );
    (Arc::new(webhook), clock)
}

fn pod() -> Value {
    json!({
        "metadata": {
            "name": "shop", "labels": {"agentwrit.io/inject": "true"},
            "annotations": {"agentwrit.io/launch-token": "reader"},
        },
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    })
}

fn review(namespace: &str, pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393", "operation": "CREATE", "namespace": namespace,
            "resource": {"group": "", "version": "v1", "resource": "pods"}, "object": pod,
        },
    })
}

async fn send(webhook: &Arc<Webhook>, request: HttpRequest) -> (StatusCode, String) {
    let routes = Routes::new(router(Arc::clone(webhook)), MAX_BODY);
    let read_by = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    let response = routes
        .respond(request, &Connection::detached([127, 0, 0, 1].into(), read_by))
        .await;
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// The `response` of the answer to a pod.
async fn answer(webhook: &Arc<Webhook>, namespace: &str, pod: &Value) -> Value {
    let body = review(namespace, pod).to_string();
    let (status, body) = send(webhook, HttpRequest::post(PATH).body(body.into()).unwrap()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let mut answer: Value = serde_json::from_str(&body).unwrap();
    answer["response"].take()
}

fn message(response: &Value) -> &str {
    assert_eq!(response["allowed"], false, "{response}");
    response["status"]["message"].as_str().unwrap()
}

#[tokio::test]
async fn a_pod_is_answered_with_a_patch_and_warnings() {
    let (webhook, _) = webhook(&[json!({"name": "shop"})]);
    let response = answer(&webhook, "shop", &pod()).await;
    assert_eq!(response["uid"], "705ab4f5-6393");
    assert_eq!(
        (&response["allowed"], &response["patchType"]),
        (&json!(true), &json!("JSONPatch"))
    );
    assert!(response["patch"].as_str().is_some_and(|patch| patch.len() > 1000));
    assert_eq!(
        response["warnings"],
        json!(["LaunchToken reader does not exist in namespace shop; the pod's containers wait until it does"])
    );
    let metrics = webhook.metrics.encode().unwrap();
    assert!(
        metrics.contains("agentwrit_controller_admissions_total{outcome=\"injected\"} 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn own_and_system_namespaces_are_left_alone() {
    let (webhook, _) = webhook(&[]);
    for namespace in ["agentwrit-system", "kube-system"] {
        let response = answer(&webhook, namespace, &json!("not even a pod")).await;
        assert_eq!(response, json!({"uid": "705ab4f5-6393", "allowed": true}));
    }
    let response = answer(&webhook, "shop", &pod()).await;
    assert_eq!(message(&response), "namespace shop can't be read at present; try again");
}

/// A namespace with this label and a default `LaunchToken`.
fn namespace(name: &str, inject: Option<&str>) -> Value {
    json!({
        "name": name, "labels": inject.map(|value| json!({"agentwrit.io/inject": value})),
        "annotations": {"agentwrit.io/default-launch-token": "common"},
    })
}

#[tokio::test]
async fn the_pods_label_counts_before_that_of_the_namespace() {
    let labels = [
        None,
        Some("true"),
        Some("enabled"),
        Some("false"),
        Some("disabled"),
        Some("yes"),
    ];
    let name = |label: Option<&str>| format!("ns-{}", label.unwrap_or("none"));
    let (webhook, _) = webhook(&labels.map(|label| namespace(&name(label), label)));
    for of_namespace in labels {
        for of_pod in labels {
            let mut pod = pod();
            pod["metadata"]["labels"] = json!(of_pod.map(|value| json!({"agentwrit.io/inject": value})));
            let response = answer(&webhook, &name(of_namespace), &pod).await;
            let expected = match of_pod.or(of_namespace) {
                Some("true" | "enabled") => "injected",
                Some("yes") => "refused",
                Some(_) => "left alone",
                None => "left alone with a warning",
            };
            let found = match (&response["allowed"], &response["patch"], &response["warnings"]) {
                (Value::Bool(false), ..) => "refused",
                (_, Value::String(_), _) => "injected",
                (_, _, Value::Null) => "left alone",
                _ => "left alone with a warning",
            };
            assert_eq!(
                found, expected,
                "namespace {of_namespace:?}, pod {of_pod:?}: {response}"
            );
            if found == "refused" {
                let owner = if of_pod.is_some() {
                    "the pod"
                } else {
                    "namespace ns-yes"
                };
                let says = format!("the label agentwrit.io/inject of {owner} is \"yes\"; it must be one of \"true\", ");
                assert!(message(&response).starts_with(&says), "{response}");
            }
        }
    }
    let mut unlabelled = pod();
    unlabelled["metadata"]["labels"] = Value::Null;
    let response = answer(&webhook, "ns-none", &unlabelled).await;
    let warning =
        "neither this pod nor namespace ns-none has the label agentwrit.io/inject; AgentWrit leaves the pod alone";
    assert_eq!(response["warnings"], json!([warning]));
}

#[tokio::test]
async fn a_pod_that_is_not_injected_is_not_looked_at_further() {
    let (webhook, _) = webhook(&[namespace("shop", Some("enabled"))]);
    let mut pod = pod();
    pod["metadata"]["labels"]["agentwrit.io/inject"] = json!("disabled");
    pod["spec"] = json!({"hostNetwork": true, "containers": vec![json!({}); 1000]});
    assert_eq!(answer(&webhook, "shop", &pod).await["allowed"], true);
}

#[tokio::test]
async fn the_mirror_of_a_static_pod_is_left_alone() {
    let (webhook, _) = webhook(&[json!({"name": "shop"})]);
    let mut mirror = pod();
    mirror["metadata"]["annotations"] =
        json!({"kubernetes.io/config.mirror": "3f2a", "agentwrit.io/scopes": "no scope"});
    mirror["metadata"]["labels"] = json!({"agentwrit.io/inject": "true"});
    mirror["spec"]["hostNetwork"] = json!(true);
    let response = answer(&webhook, "shop", &mirror).await;
    assert_eq!(response, json!({"uid": "705ab4f5-6393", "allowed": true}));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_with_a_sentence() {
    let (webhook, _) = webhook(&[]);
    let large = || Body::from(vec![b' '; MAX_BODY + 1]);
    // By its declared length, and, where that is wrong or missing, by what comes.
    let declared = HttpRequest::post(PATH)
        .header(header::CONTENT_LENGTH, MAX_BODY + 1)
        .body(Body::empty());
    let undeclared = HttpRequest::post(PATH).body(large());
    let wrong = HttpRequest::post(PATH)
        .header(header::CONTENT_LENGTH, "5")
        .body(large());
    for request in [declared, undeclared, wrong] {
        let (status, body) = send(&webhook, request.unwrap()).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(
            body.contains("larger than 3145728 bytes") && body.contains("make the pod smaller"),
            "{body}"
        );
    }
    let (status, body) = send(&webhook, HttpRequest::post(PATH).body("{}".into()).unwrap()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        body.starts_with("the body is not an AdmissionReview of admission.k8s.io/v1: apiVersion is \"\""),
        "{body}"
    );
    let metrics = webhook.metrics.encode().unwrap();
    for line in [
        "admissions_total{outcome=\"too_large\"} 3",
        "admissions_total{outcome=\"malformed\"} 1",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

/// Log lines as they are written.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Lines {
    fn take(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock());
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn refusals_are_logged_ten_times_a_second_in_one_short_line() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        .with_writer(lines.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    // With only one subscriber, tracing-core asks that of the thread which meets a call site first: none in other tests,
    // and the line would be off for good.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let (webhook, clock) = webhook(&[json!({"name": "shop"})]);
    let mut refused = pod();
    refused["metadata"]["name"] = json!(format!("a\nb\u{1b}[31m{}", "x".repeat(100_000)));
    refused["metadata"]["annotations"]["agentwrit.io/scopes"] = json!(format!("\n{}", "y".repeat(100_000)));
    for _ in 0..30 {
        let response = answer(&webhook, "shop", &refused).await;
        assert!(message(&response).len() < 1000);
    }
    let written = lines.take();
    assert_eq!(written.len(), 10, "{written:?}");
    for line in &written {
        assert!(line.len() < 1000 && !line.contains(char::is_control), "{line}");
        assert!(
            line.contains(r#"pod="\"a\\nb\\u{1b}[31mxxx"#) && line.contains("kind=\"annotation\""),
            "{line}"
        );
    }
    clock.advance(1);
    answer(&webhook, "shop", &refused).await;
    assert!(lines.take()[0].contains("left_out=20"));

    // What names no namespace of the cluster, or is no pod, writes nothing.
    answer(&webhook, "unknown", &refused).await;
    answer(&webhook, "Not_a_namespace", &refused).await;
    answer(&webhook, "shop", &json!({"spec": 5})).await;
    send(&webhook, HttpRequest::post(PATH).body("x".into()).unwrap()).await;
    assert_eq!(lines.take(), Vec::<String>::new());
    let metrics = webhook.metrics.encode().unwrap();
    for line in [
        "admission_refusals_total{kind=\"annotation\"} 31",
        "admission_refusals_total{kind=\"namespace_unknown\"} 1",
        "admission_refusals_total{kind=\"malformed\"} 2",
        "admission_refusals_not_logged_total 20",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}
