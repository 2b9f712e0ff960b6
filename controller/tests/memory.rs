//! What a body costs the webhook: a small multiple of its bytes, whatever is in it. One test, because it counts what
//! the whole process allocates.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod hostile;

use std::convert::Infallible;
use std::sync::Arc;

use agentwrit_controller::{Metrics, Namespaces, SidecarSettings, StartGate, WEBHOOK_PATH, Webhook, webhook_router};
use agentwrit_protocol::clock::ManualClock;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use futures_util::stream;
use hostile::{Answer, Case, METADATA, cases, review};
use kube::runtime::reflector;
use kube::runtime::watcher::Event;
use peak_alloc::PeakAlloc;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Beside four times the body: the request, the answer, and what the libraries need.
const FIXED: usize = 64 * 1024;
/// What the answer costs for each container, of which there are at most 256.
const ANSWER: usize = 2560;
/// As a connection hands a body over.
const FRAME: usize = 16 * 1024;

fn router() -> Router {
    let (store, mut writer) = reflector::store();
    let namespace = serde_json::from_value(json!({"metadata": {"name": "shop"}})).unwrap();
    writer.apply_watcher_event(&Event::Apply(namespace));
    let settings = SidecarSettings {
        image: "registry.example/agentwrit-sidecar:1".into(),
        pull_policy: "IfNotPresent".into(),
        uid: Some(64512),
        broker_url: "https://broker:8443".into(),
        audience: "agentwrit://a/b".into(),
        resources: r#"{"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "16Mi"}}"#
            .parse()
            .unwrap(),
        guaranteed_cpu: "100m".parse().unwrap(),
        start_gate: StartGate::Probe,
    };
    let webhook = Webhook::new(
        settings,
        "agentwrit-system".into(),
        Namespaces::new(store, watch::channel(()).1),
        Arc::default(),
        reflector::store().0,
        Arc::new(ManualClock::at(1_000_000)),
        Arc::new(Metrics::new().unwrap()),
    );
    webhook_router(Arc::new(webhook))
}

/// Status, answer, and the most that was allocated at once on the way to it.
async fn send(router: &Router, body: Vec<u8>) -> (StatusCode, Bytes, usize) {
    let router = router.clone();
    let body = Bytes::from(body);
    // Kept until the end, so that it is in the count before and in the peak.
    let source = body.clone();
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let frames = (0..body.len()).step_by(FRAME).map(move |start| {
        let end = body.len().min(start + FRAME);
        Ok::<_, Infallible>(Bytes::copy_from_slice(&body[start..end]))
    });
    let request = Request::post(WEBHOOK_PATH).body(Body::from_stream(stream::iter(frames)));
    let response = router.oneshot(request.unwrap()).await.unwrap();
    let peak = MEMORY.peak_usage().saturating_sub(before);
    drop(source);
    let status = response.status();
    let answer = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, answer, peak)
}

/// What is wrong with the answer.
fn fault(expected: Answer, status: StatusCode, answer: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(answer).into_owned();
    let response = |member: &str| {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        answer["response"][member].clone()
    };
    let right = match expected {
        Answer::Bad(part) => status == StatusCode::BAD_REQUEST && text.contains(part) && text.len() < 1000,
        Answer::Refused(part) => {
            let status = response("status");
            let sentence = status["message"].as_str().unwrap_or_default();
            response("allowed") == false && sentence.contains(part) && sentence.len() < 1000
        }
        Answer::Allowed => response("allowed") == true,
    };
    (!right).then(|| format!("{status} {}", text.chars().take(1000).collect::<String>()))
}

async fn hostile_bodies(router: &Router) {
    let mut faults = Vec::new();
    for Case { name, body, answer } in cases() {
        let bytes = body.len();
        let (status, answered, peak) = send(router, body).await;
        if let Some(fault) = fault(answer, status, &answered) {
            faults.push(format!("{name}: {fault}"));
        }
        if peak > 4 * bytes + FIXED {
            faults.push(format!("{name}: {peak} bytes for {bytes}"));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

async fn ordinary_pods(router: &Router) {
    let mounts = r#"[{"name":"kube-api-access-x7f","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}]"#;
    let containers = |count: usize| {
        let named = (0..count).map(|n| {
            format!(r#"{{"name":"app-{n}","image":"app","env":[{{"name":"A","value":"b"}}],"volumeMounts":{mounts}}}"#)
        });
        named.collect::<Vec<_>>().join(",")
    };
    for (count, answer_of_one) in [(1, 0), (10, 0), (256, ANSWER)] {
        let pod = review(&format!(
            r#"{{"metadata":{METADATA},"spec":{{"containers":[{}]}}}}"#,
            containers(count)
        ));
        let bytes = pod.len();
        let (status, answer, peak) = send(router, pod.into_bytes()).await;
        assert_eq!(status, StatusCode::OK);
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["response"]["patchType"], "JSONPatch", "{answer}");
        let most = 4 * bytes + FIXED + count * answer_of_one;
        assert!(peak <= most, "{count} containers in {bytes} bytes: {peak}");
    }
}

#[test]
fn a_body_costs_a_small_multiple_of_its_bytes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(async {
        let router = router();
        // What is made once, such as the metrics of each outcome, isn't counted.
        send(&router, Vec::new()).await;
        hostile_bodies(&router).await;
        ordinary_pods(&router).await;
    });
}
