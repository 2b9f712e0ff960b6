//! What the API server says about pods, by quorum reads.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use agentwrit_protocol::PodUid;
use agentwrit_protocol::k8s::LivePod;
use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use tokio::time::timeout;

use super::head::PodHead;
use super::{API_TIMEOUT, CONCURRENCY, Gone, NOT_FINISHED, PAGE, PodError};

/// What reading many pods came to.
#[derive(Debug, Default)]
pub(super) struct Confirmed {
    pub(crate) gone: Vec<Gone>,
    /// Those that run.
    pub(crate) running: Vec<PodUid>,
    /// How many could not be read.
    pub(crate) unread: usize,
    /// Why the first of them couldn't.
    pub(crate) error: Option<PodError>,
}

/// Why the pod has ended, if it has: a quorum read, never a cache.
pub(super) async fn confirm(client: &Client, pod: &LivePod) -> Result<Option<&'static str>, PodError> {
    const DOING: &str = "reading a pod";
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace);
    let found = timeout(API_TIMEOUT, api.get_opt(&pod.name))
        .await
        .map_err(|_| PodError::Slow { doing: DOING })?
        .map_err(|source| failed(DOING, source))?;
    Ok(ended(&pod.uid, found.as_ref()))
}

/// Reads each of these pods, a few at once. An API server that doesn't answer is soon left alone; one pod that can't
/// be read keeps none of the others.
pub(super) async fn confirm_all(client: &Client, pods: Vec<LivePod>) -> Confirmed {
    let failures = AtomicUsize::new(0);
    let reads = stream::iter(pods).map(|pod| {
        let failures = &failures;
        async move {
            if failures.load(Ordering::Relaxed) >= CONCURRENCY {
                return (pod, None);
            }
            let answer = confirm(client, &pod).await;
            let is_away = answer.as_ref().is_err_and(is_away);
            failures.fetch_add(usize::from(is_away), Ordering::Relaxed);
            (pod, Some(answer))
        }
    });
    let mut reads = std::pin::pin!(reads.buffer_unordered(CONCURRENCY));
    let mut confirmed = Confirmed::default();
    while let Some((pod, answer)) = reads.next().await {
        match answer {
            Some(Ok(Some(reason))) => confirmed.gone.push(Gone { pod, reason }),
            Some(Ok(None)) => confirmed.running.push(pod.uid),
            Some(Err(error)) => {
                confirmed.unread += 1;
                confirmed.error.get_or_insert(error);
            }
            None => confirmed.unread += 1,
        }
    }
    confirmed
}

/// Those of `pods` that a list of all unfinished pods of the cluster doesn't have.
pub(super) async fn not_listed(client: &Client, pods: &[LivePod]) -> Result<Vec<LivePod>, PodError> {
    const DOING: &str = "listing pods";
    let api: Api<PodHead> = Api::all(client.clone());
    // resourceVersion stays unset: the answer is at least as new as the broker's.
    let mut parameters = ListParams::default().fields(NOT_FINISHED).limit(PAGE);
    let mut missing: HashSet<&str> = pods.iter().map(|pod| pod.uid.as_str()).collect();
    while !missing.is_empty() {
        let page = timeout(API_TIMEOUT, api.list(&parameters))
            .await
            .map_err(|_| PodError::Slow { doing: DOING })?
            .map_err(|source| failed(DOING, source))?;
        for uid in page.items.iter().filter_map(ResourceExt::uid) {
            missing.remove(uid.as_str());
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters.continue_token = Some(token),
            None => break,
        }
    }
    let is_missing = |pod: &&LivePod| missing.contains(pod.uid.as_str());
    Ok(pods.iter().filter(is_missing).cloned().collect())
}

/// Whether the API server doesn't answer, rather than that it refuses.
fn is_away(error: &PodError) -> bool {
    match error {
        PodError::Api { source, .. } => !matches!(source.as_ref(), kube::Error::Api(status) if status.code < 500),
        PodError::Slow { .. } => true,
        PodError::MostAreGone { .. } => false,
    }
}

fn failed(doing: &'static str, source: kube::Error) -> PodError {
    PodError::Api {
        doing,
        source: Box::new(source),
    }
}

fn ended(uid: &PodUid, found: Option<&Pod>) -> Option<&'static str> {
    let Some(pod) = found else {
        return Some("deleted");
    };
    if pod.metadata.uid.as_deref() != Some(uid.as_str()) {
        return Some("replaced");
    }
    match pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Succeeded") => Some("succeeded"),
        Some("Failed") => Some("failed"),
        _ => None,
    }
}

/// An API server for tests, without a network.
#[cfg(test)]
pub(super) mod fake {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::{Request, Response, StatusCode};
    use kube::Client;
    use kube::client::Body;
    use serde_json::{Value, json};

    pub(in crate::pod_end) fn status(code: u16, reason: &str) -> (u16, Value) {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
            "message": reason});
        (code, status)
    }

    /// An API server that answers a path and query; counts what it is asked.
    pub(in crate::pod_end) fn api_server(
        answer: impl Fn(&str) -> (u16, Value) + Send + Sync + 'static,
    ) -> (Client, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let (counted, answer) = (Arc::clone(&asked), Arc::new(answer));
        let service = tower::service_fn(move |request: Request<Body>| {
            counted.fetch_add(1, Ordering::SeqCst);
            let (code, body) = answer(&request.uri().to_string());
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            let response = Response::builder().status(StatusCode::from_u16(code).unwrap());
            std::future::ready(Ok::<_, Infallible>(response.body(body).unwrap()))
        });
        (Client::new(service, "default"), asked)
    }

    /// A list without a pod.
    pub(in crate::pod_end) fn no_pods() -> Value {
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": []})
    }
}

#[cfg(test)]
mod tests {
    use super::fake::{api_server, status};
    use super::*;
    use serde_json::{Value, json};

    fn pod(uid: &str) -> LivePod {
        LivePod {
            uid: uid.into(),
            namespace: "shop".into(),
            name: format!("pod-{uid}"),
        }
    }

    fn object(uid: &str, phase: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"uid": uid, "name": format!("pod-{uid}"), "namespace": "shop",
                "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"phase": phase},
        })
    }

    #[test]
    fn only_absence_another_uid_or_a_final_phase_is_an_end() {
        let found = |uid, phase| serde_json::from_value::<Pod>(object(uid, phase)).unwrap();
        let a = PodUid::from("a");
        assert_eq!(ended(&a, None), Some("deleted"));
        assert_eq!(ended(&a, Some(&found("b", "Running"))), Some("replaced"));
        assert_eq!(ended(&a, Some(&found("a", "Succeeded"))), Some("succeeded"));
        assert_eq!(ended(&a, Some(&found("a", "Failed"))), Some("failed"));
        for phase in ["Pending", "Running", "Unknown"] {
            assert_eq!(ended(&a, Some(&found("a", phase))), None, "{phase}, being deleted");
        }
    }

    #[tokio::test]
    async fn a_pod_that_cant_be_read_is_neither_gone_nor_running() {
        let (client, _) = api_server(|path| match path.rsplit('/').next() {
            Some("pod-gone") => status(404, "NotFound"),
            Some("pod-runs") => (200, object("runs", "Running")),
            _ => status(403, "Forbidden"),
        });
        let pods = ["hidden", "gone", "runs"].map(pod).to_vec();
        let confirmed = confirm_all(&client, pods).await;
        let gone: Vec<&str> = confirmed.gone.iter().map(|gone| gone.pod.uid.as_str()).collect();
        assert_eq!((gone, confirmed.running), (vec!["gone"], vec![PodUid::from("runs")]));
        assert_eq!(confirmed.unread, 1);
        assert!(matches!(confirmed.error, Some(PodError::Api { .. })));
    }

    #[tokio::test]
    async fn only_an_api_server_that_is_away_is_left_alone() {
        let pods: Vec<LivePod> = (0..500).map(|number| pod(&number.to_string())).collect();
        for (code, at_most) in [(503, 2 * CONCURRENCY), (403, 500)] {
            let (client, asked) = api_server(move |_| status(code, "no"));
            let confirmed = confirm_all(&client, pods.clone()).await;
            assert_eq!((confirmed.gone.len(), confirmed.unread), (0, 500));
            let asked = asked.load(Ordering::SeqCst);
            assert!(
                asked <= at_most && (code == 503 || asked == 500),
                "{code}: asked {asked} times"
            );
        }
    }

    #[tokio::test]
    async fn the_list_is_read_page_by_page_and_without_a_label() {
        let item = |uid: &str| json!({"metadata": {"uid": uid, "name": format!("pod-{uid}"), "namespace": "shop"}});
        let list = move |uid: &str, next: &str| {
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
                "metadata": {"continue": next}, "items": [item(uid)]})
        };
        let (client, asked) = api_server(move |path| {
            if path.contains("labelSelector") || path.contains("resourceVersion") {
                return status(400, "BadRequest");
            }
            let first = !path.contains("continue=next");
            (200, if first { list("a", "next") } else { list("b", "") })
        });
        let missing = not_listed(&client, &["a", "b", "c"].map(pod)).await.unwrap();
        assert_eq!(missing, [pod("c")]);
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }
}
