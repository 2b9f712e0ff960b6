//! A client for what only the leader writes: without a claim nothing leaves, and nothing is created in a namespace
//! that is being deleted.
//!
//! A process that was stopped goes on where it was, perhaps between a check of its claim and the write. So the claim is
//! asked for once more where each request leaves. What is on its way to the API server by then can't be called back;
//! the next leader compares everything when it begins. The broker refuses such a writer by its epoch.
//!
//! In a namespace that is being deleted the API server refuses whatever is created: Events, Secrets, ConfigMaps. All of
//! them come by here, so that each is refused here in the API server's words, without a request.

use axum::http::{Method, Request};
use kube::Client;
use kube::client::Body;

use super::leadership::Leadership;
use crate::ending_namespaces::{self, EndingNamespaces};

/// This replica doesn't lead: what it was about to write is another one's to write.
#[derive(Debug, thiserror::Error)]
#[error("this replica doesn't hold the Lease")]
pub(crate) struct NotLeading;

/// The same client, whose writes fail with [`NotLeading`] while there is no claim, and whose creations in one of the
/// namespaces `ending` fail as they would at the API server.
pub(crate) fn guarded(client: &Client, leadership: &Leadership, ending: &EndingNamespaces) -> Client {
    let namespace = client.default_namespace().to_owned();
    let (client, leadership, ending) = (client.clone(), leadership.clone(), ending.clone());
    let send = move |request: Request<Body>| {
        let (client, leadership) = (client.clone(), leadership.clone());
        let refusal = (*request.method() == Method::POST)
            .then(|| ending.of(request.uri().path()).map(ending_namespaces::refusal))
            .flatten();
        async move {
            if *request.method() != Method::GET && leadership.claim().is_none() {
                return Err(kube::Error::Service(Box::new(NotLeading)));
            }
            match refusal {
                Some(refusal) => Err(refusal),
                None => client.send(request).await,
            }
        }
    };
    Client::new(tower::service_fn(send), namespace)
}

/// Whether a write failed because this replica doesn't lead.
pub(crate) fn is_not_leading(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Service(source) if source.is::<NotLeading>())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::time::Duration;

    use axum::http::Response;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use kube::api::{Patch, PatchParams, PostParams};
    use parking_lot::Mutex;
    use tokio::sync::{mpsc, watch};
    use tokio::time::Instant;

    use super::super::leadership::Claim;
    use super::*;
    use crate::ending_namespaces::tests::old_is_ending;

    type Arrived = Arc<Mutex<Vec<Method>>>;

    /// A client that answers by itself, and what came to it.
    fn answering() -> (Client, Arrived) {
        let arrived = Arrived::default();
        let seen = Arc::clone(&arrived);
        let answer = move |request: Request<Body>| {
            seen.lock().push(request.method().clone());
            let body = Body::from(br#"{"metadata": {"name": "a"}}"#.to_vec());
            std::future::ready(Ok::<_, Infallible>(Response::new(body)))
        };
        (Client::new(tower::service_fn(answer), "shop"), arrived)
    }

    #[tokio::test]
    async fn in_an_ending_namespace_nothing_is_created() {
        let (client, arrived) = answering();
        let client = guarded(&client, &Leadership::fixed(Some(1)), &old_is_ending());
        let new = ConfigMap::default();
        let (create, change) = (PostParams::default(), PatchParams::default());
        let old: Api<ConfigMap> = Api::namespaced(client.clone(), "old");
        let error = old.create(&create, &new).await.unwrap_err();
        assert!(ending_namespaces::is_refusal(&error), "{error:?}");
        assert!(arrived.lock().is_empty(), "no request");
        let patch = Patch::Merge(serde_json::json!({}));
        old.patch("a", &change, &patch).await.unwrap();
        let shop: Api<ConfigMap> = Api::namespaced(client, "shop");
        shop.create(&create, &new).await.unwrap();
        assert_eq!(*arrived.lock(), [Method::PATCH, Method::POST]);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_written_once_the_claim_has_run_out() {
        let (client, arrived) = answering();
        let (claim, reader) = watch::channel(None);
        let (_annotated, annotated_reader) = watch::channel(None);
        let leadership = Leadership::new(reader, mpsc::channel(1).0, annotated_reader, watch::channel(None).0);
        let client = guarded(&client, &leadership, &old_is_ending());
        let api: Api<ConfigMap> = Api::default_namespaced(client);
        let write = || async { api.create(&PostParams::default(), &ConfigMap::default()).await };
        let until = Instant::now() + Duration::from_secs(12);
        for (lead, passes) in [(None, false), (Some(Claim { until, epoch: 1 }), true)] {
            claim.send_replace(lead);
            assert_eq!(write().await.is_ok(), passes);
            api.get("a").await.unwrap();
        }
        // As after a stop of the process: nobody has taken the claim away yet.
        tokio::time::advance(Duration::from_secs(12)).await;
        assert!(is_not_leading(&write().await.unwrap_err()));
        assert_eq!(*arrived.lock(), [Method::GET, Method::POST, Method::GET]);
    }
}
