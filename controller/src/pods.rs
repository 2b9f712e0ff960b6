//! When a pod ends, its authority ends: watch, confirm, tell the broker.
//!
//! Leaving the watched set is a hint only: labels change, watches miss. A quorum read confirms each end.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agentwrit_protocol::inject::LABEL_INJECTED;
use agentwrit_protocol::k8s::{LivePod, PolicyListResponse};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, Client, ResourceExt};
use tokio::sync::{Semaphore, mpsc};

use crate::broker::{Broker, BrokerError};
use crate::metrics::Metrics;
use crate::report::{Categorised, Category, Reporter};
use crate::watches::{CaWanted, each, strip};

/// Pods that run, or will.
const NOT_FINISHED: &str = "status.phase!=Succeeded,status.phase!=Failed";
/// Confirmations and messages to the broker at once.
const CONCURRENCY: usize = 8;
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Below this many, no comparison stops for safety: one pod of one is always more than half.
const SAFETY_FLOOR: usize = 10;

/// Why the pods can't be compared.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// The API server refused or didn't answer.
    #[error("{doing} failed")]
    Api {
        /// What we were doing.
        doing: &'static str,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// More than half would go at once.
    #[error(
        "{ending} of the broker's {all} pods would end at once; nothing was done: check that the controller sees the \
         cluster it should. Tokens of pods that are really gone run out by themselves"
    )]
    SafetyStop {
        /// How many would end.
        ending: usize,
        /// How many there are.
        all: usize,
    },
}

impl Categorised for PodError {
    fn category(&self) -> Category {
        match self {
            Self::Api { .. } => Category::Kubernetes,
            Self::SafetyStop { .. } => Category::Safety,
        }
    }
}

/// Pods that may have ended.
pub type Hints = mpsc::UnboundedSender<LivePod>;

/// Watches injected pods; hints at those that leave, and asks for the CA where they are. Runs for ever.
pub async fn watch(client: Client, hints: Hints, ca_wanted: CaWanted, metrics: Arc<Metrics>) {
    let config = watcher::Config::default()
        .labels(&format!("{LABEL_INJECTED}=true"))
        .fields(NOT_FINISHED);
    let stream = watch_objects(Api::<PartialObjectMeta<Pod>>::all(client), config)
        .default_backoff()
        .modify(strip);
    let mut seen = Seen::default();
    each(stream, "pods", metrics, |event| {
        if let Event::Apply(pod) | Event::InitApply(pod) = event {
            // Nobody works any more when the process ends; so below.
            let _ = ca_wanted.send(pod.namespace().unwrap_or_default());
        }
        for pod in seen.left(event) {
            let _ = hints.send(pod);
        }
    })
    .await;
}

/// The watched set.
#[derive(Debug, Default)]
struct Seen {
    pods: HashMap<String, LivePod>,
    listing: HashMap<String, LivePod>,
}

impl Seen {
    /// Which pods left the set with this event.
    fn left(&mut self, event: &Event<PartialObjectMeta<Pod>>) -> Vec<LivePod> {
        match event {
            Event::Apply(pod) => {
                let pod = live(pod);
                self.pods.insert(pod.uid.clone(), pod);
                Vec::new()
            }
            Event::Delete(pod) => {
                let pod = live(pod);
                self.pods.remove(&pod.uid);
                vec![pod]
            }
            Event::Init => {
                self.listing.clear();
                Vec::new()
            }
            Event::InitApply(pod) => {
                let pod = live(pod);
                self.listing.insert(pod.uid.clone(), pod);
                Vec::new()
            }
            Event::InitDone => {
                let before = std::mem::replace(&mut self.pods, std::mem::take(&mut self.listing));
                before
                    .into_values()
                    .filter(|pod| !self.pods.contains_key(&pod.uid))
                    .collect()
            }
        }
    }
}

fn live(pod: &PartialObjectMeta<Pod>) -> LivePod {
    LivePod {
        uid: pod.uid().unwrap_or_default(),
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
    }
}

/// Confirms ends and tells the broker.
pub struct Ender {
    client: Client,
    broker: Arc<Broker>,
    reporter: Reporter,
    metrics: Arc<Metrics>,
    /// This controller's own pod, for Events that concern no single pod.
    own: ObjectReference,
    under_way: Mutex<HashSet<String>>,
}

impl std::fmt::Debug for Ender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ender").finish_non_exhaustive()
    }
}

impl Ender {
    /// An ender that reports general trouble on the pod `own`.
    pub fn new(
        client: Client,
        broker: Arc<Broker>,
        reporter: Reporter,
        metrics: Arc<Metrics>,
        own: ObjectReference,
    ) -> Self {
        Self {
            client,
            broker,
            reporter,
            metrics,
            own,
            under_way: Mutex::default(),
        }
    }

    /// Works off hints for ever.
    pub async fn work(self: Arc<Self>, mut hints: mpsc::UnboundedReceiver<LivePod>) {
        let permits = Arc::new(Semaphore::new(CONCURRENCY));
        while let Some(pod) = hints.recv().await {
            if !self.under_way().insert(pod.uid.clone()) {
                continue;
            }
            let (ender, permits) = (Arc::clone(&self), Arc::clone(&permits));
            tokio::spawn(async move {
                ender.end(&pod, &permits).await;
                ender.under_way().remove(&pod.uid);
            });
        }
    }

    fn under_way(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn end(&self, pod: &LivePod, permits: &Semaphore) {
        let mut pause = Duration::from_millis(250);
        loop {
            {
                let Ok(_permit) = permits.acquire().await else { return };
                match self.try_end(pod).await {
                    Ok(()) | Err(Trouble::Broker(BrokerError::NotLeader)) => return,
                    Err(Trouble::Broker(error @ BrokerError::Refused { .. })) => {
                        self.reporter.error("telling the broker of a pod's end", &error);
                        return;
                    }
                    Err(Trouble::Broker(error)) => {
                        tracing::debug!(pod = pod.name, %error, "a pod's end waits for the broker");
                    }
                    Err(Trouble::Api(error)) => self.reporter.error("confirming a pod's end", &error),
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn try_end(&self, pod: &LivePod) -> Result<(), Trouble> {
        let Some(reason) = self.confirm(pod).await? else {
            return Ok(());
        };
        let revoked = self.broker.pod_ended(pod, reason).await.map_err(Trouble::Broker)?;
        self.metrics.pods_ended.inc();
        tracing::info!(
            namespace = pod.namespace,
            pod = pod.name,
            uid = pod.uid,
            reason,
            revoked,
            "a pod ended"
        );
        Ok(())
    }

    /// Why the pod has ended, if it has: a quorum read, never the cache.
    async fn confirm(&self, pod: &LivePod) -> Result<Option<&'static str>, Trouble> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        let found = api.get_opt(&pod.name).await.map_err(|source| {
            Trouble::Api(PodError::Api {
                doing: "reading a pod",
                source: Box::new(source),
            })
        })?;
        Ok(ended(&pod.uid, found.as_ref()))
    }

    /// Compares the broker's pods, read before, with the cluster's; hints at those that are no longer there.
    ///
    /// # Errors
    /// When the cluster's can't be listed, or more than half would end at once.
    pub async fn compare(&self, brokers: &PolicyListResponse, hints: &Hints) -> Result<(), PodError> {
        let api: Api<Pod> = Api::all(self.client.clone());
        // resourceVersion stays unset: the answer is at least as new as the broker's.
        let mut parameters = ListParams::default()
            .labels(&format!("{LABEL_INJECTED}=true"))
            .fields(NOT_FINISHED)
            .limit(500);
        let mut running = HashSet::new();
        loop {
            let page = api.list_metadata(&parameters).await.map_err(|source| PodError::Api {
                doing: "listing the injected pods",
                source: Box::new(source),
            })?;
            running.extend(page.items.iter().filter_map(ResourceExt::uid));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters.continue_token = Some(token),
                None => break,
            }
        }
        for pod in to_end(&brokers.pods, &running)? {
            let _ = hints.send(pod);
        }
        Ok(())
    }

    /// Tells of a failed comparison.
    pub async fn report(&self, error: &PodError) {
        match error {
            PodError::Api { .. } => self.reporter.error("comparing pods", error),
            PodError::SafetyStop { .. } => {
                self.metrics.safety_stops.inc();
                self.reporter
                    .error_on("comparing pods", "SafetyStop", error, &self.own)
                    .await;
            }
        }
    }
}

enum Trouble {
    Broker(BrokerError),
    Api(PodError),
}

fn ended(uid: &str, found: Option<&Pod>) -> Option<&'static str> {
    let Some(pod) = found else {
        return Some("deleted");
    };
    if pod.metadata.uid.as_deref() != Some(uid) {
        return Some("replaced");
    }
    match pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Succeeded") => Some("succeeded"),
        Some("Failed") => Some("failed"),
        _ => None,
    }
}

fn to_end(brokers: &[LivePod], running: &HashSet<String>) -> Result<Vec<LivePod>, PodError> {
    let gone: Vec<LivePod> = brokers
        .iter()
        .filter(|pod| !running.contains(&pod.uid))
        .cloned()
        .collect();
    if gone.len() > SAFETY_FLOOR && gone.len() > brokers.len() / 2 {
        return Err(PodError::SafetyStop {
            ending: gone.len(),
            all: brokers.len(),
        });
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::api::ObjectMeta;
    use kube::core::PartialObjectMetaExt;

    fn pod(uid: &str) -> PartialObjectMeta<Pod> {
        ObjectMeta {
            uid: Some(uid.into()),
            name: Some(format!("pod-{uid}")),
            namespace: Some("shop".into()),
            ..ObjectMeta::default()
        }
        .into_response_partial::<Pod>()
    }

    fn uids(pods: Vec<LivePod>) -> Vec<String> {
        let mut uids: Vec<String> = pods.into_iter().map(|pod| pod.uid).collect();
        uids.sort();
        uids
    }

    #[test]
    fn pods_leave_by_deletion_and_by_missing_in_a_new_list() {
        let mut seen = Seen::default();
        for event in [
            Event::Init,
            Event::InitApply(pod("a")),
            Event::InitApply(pod("b")),
            Event::InitDone,
        ] {
            assert!(seen.left(&event).is_empty());
        }
        assert!(seen.left(&Event::Apply(pod("c"))).is_empty());
        assert_eq!(uids(seen.left(&Event::Delete(pod("a")))), ["a"]);
        // The watch broke and lists again: b is gone, d is new.
        assert!(seen.left(&Event::Init).is_empty());
        assert!(seen.left(&Event::InitApply(pod("c"))).is_empty());
        assert!(seen.left(&Event::InitApply(pod("d"))).is_empty());
        assert_eq!(uids(seen.left(&Event::InitDone)), ["b"]);
        assert_eq!(uids(seen.left(&Event::Delete(pod("d")))), ["d"]);
    }

    #[test]
    fn only_absence_another_uid_or_a_final_phase_is_an_end() {
        let found = |uid: &str, phase: &str| -> Pod {
            serde_json::from_value(serde_json::json!({
                "metadata": {"uid": uid, "deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": phase}
            }))
            .unwrap()
        };
        assert_eq!(ended("a", None), Some("deleted"));
        assert_eq!(ended("a", Some(&found("b", "Running"))), Some("replaced"));
        assert_eq!(ended("a", Some(&found("a", "Succeeded"))), Some("succeeded"));
        assert_eq!(ended("a", Some(&found("a", "Failed"))), Some("failed"));
        for phase in ["Pending", "Running", "Unknown"] {
            assert_eq!(
                ended("a", Some(&found("a", phase))),
                None,
                "{phase}, although it is being deleted"
            );
        }
    }

    #[test]
    fn a_comparison_stops_when_more_than_half_would_go() {
        let brokers =
            |count: usize| -> Vec<LivePod> { (0..count).map(|index| live(&pod(&index.to_string()))).collect() };
        let running =
            |from: usize, to: usize| -> HashSet<String> { (from..to).map(|index| index.to_string()).collect() };
        assert_eq!(
            to_end(&brokers(24), &running(12, 24)).unwrap().len(),
            12,
            "exactly half"
        );
        assert!(matches!(
            to_end(&brokers(24), &running(13, 24)),
            Err(PodError::SafetyStop { ending: 13, all: 24 })
        ));
        assert_eq!(to_end(&brokers(1), &running(1, 1)).unwrap().len(), 1, "one of one");
        assert!(
            to_end(&brokers(11), &HashSet::new()).is_err(),
            "an empty list of a cluster that had pods"
        );
    }
}
