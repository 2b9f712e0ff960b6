//! Pods whose sidecar runs and of which the broker hasn't heard: a Warning Event tells of each once.
//!
//! A pod whose launch was refused has an Event of its own; here it is about those whose request never arrived, or not
//! as that of a pod.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentwrit_protocol::Clock;
use agentwrit_protocol::inject::CONTAINER_NAME;
use agentwrit_protocol::k8s::LivePod;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::runtime::events::EventType;
use kube::runtime::watcher::Event;
use kube::{Api, Client, Resource};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::head::PodHead;
use super::known::number_of;
use super::{API_TIMEOUT, BrokersPods, known};
use crate::lease::Leadership;
use crate::report::Reporter;

/// So long the sidecar runs before it is told of: it asks the broker within its first second.
const PATIENCE: Duration = Duration::from_mins(1);
/// A pod that hasn't started is looked at ever more rarely, at least this often.
const LONGEST: Duration = Duration::from_mins(10);
/// Pods that are followed at once; of others nothing is told.
const MAX_PODS: usize = 16_384;
/// Pods that are read after one look at the broker.
const READS: usize = 32;
/// Reason of the Event.
const REASON: &str = "NoLaunchRequest";

/// The pods with our label, and whether the broker has heard of them.
#[derive(Debug, Default)]
pub struct Silent {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pods: HashMap<u128, Followed>,
    /// Those of a list that is under way.
    listing: HashSet<u128>,
}

#[derive(Debug)]
enum Followed {
    /// To be looked at from this moment on; if it isn't running then, after twice the pause.
    Waits {
        pod: LivePod,
        next: Instant,
        pause: Duration,
    },
    /// The broker has heard of it, or an Event told that it hasn't.
    Settled,
}

impl Silent {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in an event of the watch.
    pub(super) fn observe(&self, event: &Event<PodHead>, now: Instant) {
        let mut guard = self.state();
        let state = &mut *guard;
        match event {
            Event::Apply(pod) => state.follow(pod, now),
            Event::Delete(pod) => {
                if let Some(number) = number_of(pod) {
                    state.pods.remove(&number);
                }
            }
            Event::Init => state.listing.clear(),
            Event::InitApply(pod) => {
                if pod.is_labelled() {
                    state.listing.extend(number_of(pod));
                }
                state.follow(pod, now);
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut state.listing);
                state.pods.retain(|number, _| listed.contains(number));
            }
        }
    }

    /// The broker has heard of this pod.
    pub fn heard(&self, uid: &str) {
        self.state().settle(uid);
    }

    /// Those that are due, and that the broker hadn't heard of when it was asked.
    fn due(&self, list: &BrokersPods) -> Vec<LivePod> {
        let mut state = self.state();
        for pod in &list.pods {
            state.settle(&pod.uid);
        }
        let mut due: Vec<(Instant, LivePod)> = state
            .pods
            .values()
            .filter_map(|followed| match followed {
                Followed::Waits { pod, next, .. } if *next <= list.asked => Some((*next, pod.clone())),
                _ => None,
            })
            .collect();
        due.sort_by_key(|(next, _)| *next);
        due.truncate(READS);
        due.into_iter().map(|(_, pod)| pod).collect()
    }

    /// The pod isn't to be told of yet: it is due again after `rest`, or after twice the last pause.
    fn later(&self, uid: &str, rest: Option<Duration>, now: Instant) {
        let mut state = self.state();
        let followed = known::number(uid).and_then(|number| state.pods.get_mut(&number));
        if let Some(Followed::Waits { next, pause, .. }) = followed {
            if rest.is_none() {
                *pause = pause.saturating_mul(2).min(LONGEST);
            }
            *next = now + rest.unwrap_or(*pause);
        }
    }
}

impl State {
    fn settle(&mut self, uid: &str) {
        if let Some(followed) = known::number(uid).and_then(|number| self.pods.get_mut(&number)) {
            *followed = Followed::Settled;
        }
    }

    fn follow(&mut self, pod: &PodHead, now: Instant) {
        let Some(number) = number_of(pod).filter(|_| pod.is_labelled()) else {
            return;
        };
        if self.pods.len() < MAX_PODS {
            self.pods.entry(number).or_insert_with(|| Followed::Waits {
                pod: pod.live(),
                next: now + PATIENCE,
                pause: PATIENCE,
            });
        }
    }
}

/// What a pod that the broker hasn't heard of is like.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// It has ended, or is another one.
    Gone,
    /// Its sidecar isn't running, or not for long enough; then how much longer it needs.
    NotYet(Option<Duration>),
    /// Its sidecar should have been heard of.
    Silent,
}

fn seen(uid: &str, pod: Option<&Pod>, unix_seconds: i64) -> Seen {
    let Some(pod) = pod.filter(|pod| pod.meta().uid.as_deref() == Some(uid)) else {
        return Seen::Gone;
    };
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    if pod.meta().deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed")) {
        return Seen::Gone;
    }
    let containers = status.and_then(|status| status.init_container_statuses.as_deref());
    let started = containers
        .into_iter()
        .flatten()
        .find(|container| container.name == CONTAINER_NAME)
        .and_then(|container| container.state.as_ref()?.running.as_ref()?.started_at.as_ref());
    let Some(started) = started else {
        return Seen::NotYet(None);
    };
    let runs = u64::try_from(unix_seconds.saturating_sub(started.0.as_second())).unwrap_or(0);
    match PATIENCE.checked_sub(Duration::from_secs(runs)) {
        Some(rest) if !rest.is_zero() => Seen::NotYet(Some(rest)),
        _ => Seen::Silent,
    }
}

/// Tells of silent pods.
pub struct Teller {
    /// The API server.
    pub client: Client,
    /// Whether we may write.
    pub leadership: Leadership,
    /// Which pods there are.
    pub silent: Arc<Silent>,
    /// Writes the Events.
    pub reporter: Reporter,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where the sidecars look for the broker.
    pub broker_url: String,
}

impl std::fmt::Debug for Teller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Teller").finish_non_exhaustive()
    }
}

impl Teller {
    /// Looks at what is due after each look at the broker; runs for ever.
    pub async fn run(self, mut looks: watch::Receiver<Option<Arc<BrokersPods>>>) {
        while looks.changed().await.is_ok() {
            let list = looks.borrow_and_update().clone();
            if let Some(list) = list
                && self.leadership.claim().map(|claim| claim.epoch) == Some(list.lead)
            {
                for pod in self.silent.due(&list) {
                    self.look(&pod).await;
                }
            }
        }
    }

    async fn look(&self, pod: &LivePod) {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        let Ok(Ok(found)) = timeout(API_TIMEOUT, api.get_opt(&pod.name)).await else {
            // The comparison of pods tells of an API server that doesn't answer.
            return self.silent.later(&pod.uid, None, Instant::now());
        };
        match seen(&pod.uid, found.as_ref(), self.clock.unix_seconds()) {
            Seen::Gone => self.silent.heard(&pod.uid),
            Seen::NotYet(rest) => self.silent.later(&pod.uid, rest, Instant::now()),
            Seen::Silent => {
                self.silent.heard(&pod.uid);
                self.tell(pod).await;
            }
        }
    }

    async fn tell(&self, pod: &LivePod) {
        let reference = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(pod.namespace.clone()),
            name: Some(pod.name.clone()),
            uid: Some(pod.uid.clone()),
            ..ObjectReference::default()
        };
        tracing::warn!(
            namespace = pod.namespace,
            pod = pod.name,
            uid = pod.uid,
            "the broker has not heard of a pod whose sidecar is running"
        );
        let note = note(pod, &self.broker_url);
        self.reporter
            .event(EventType::Warning, REASON, "Launch", &note, &reference)
            .await;
    }
}

fn note(pod: &LivePod, broker_url: &str) -> String {
    format!(
        "The sidecar has been running for {} s, and no launch request of this pod has reached the broker at {broker_url}. \
         Look what the sidecar says: kubectl -n {} logs {} -c {CONTAINER_NAME}. Likely causes: the pod's DNS doesn't \
         find the broker; a NetworkPolicy doesn't let it through; the ConfigMap agentwrit-ca holds another CA than the \
         broker's; the pod's ServiceAccount token has another audience than the broker wants (an audit event \
         attestation_denied then says so).",
        PATIENCE.as_secs(),
        pod.namespace,
        pod.name,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentwrit_protocol::inject::LABEL_INJECTED;
    use serde_json::{Value, json};

    fn uid(number: u8) -> String {
        format!("00000000-0000-4000-8000-0000000000{number:02x}")
    }

    fn head(number: u8, label: &str) -> PodHead {
        let pod = json!({"metadata": {
            "uid": uid(number), "name": format!("pod-{number}"), "namespace": "shop", "labels": {LABEL_INJECTED: label},
        }});
        serde_json::from_value(pod).unwrap()
    }

    fn asked(at: Instant, heard: &[u8]) -> BrokersPods {
        BrokersPods {
            pods: heard.iter().map(|number| head(*number, "true").live()).collect(),
            store: "store".into(),
            lead: 1,
            asked: at,
        }
    }

    fn due(silent: &Silent, at: Instant, heard: &[u8]) -> Vec<String> {
        let due = silent.due(&asked(at, heard));
        due.into_iter().map(|pod| pod.name).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_is_due_after_a_minute_unless_it_was_heard() {
        let (silent, now) = (Silent::default(), Instant::now());
        for number in 1..=3 {
            silent.observe(&Event::Apply(head(number, "true")), now);
        }
        silent.observe(&Event::Apply(head(4, "no")), now);
        silent.heard(&uid(2));
        assert_eq!(due(&silent, now + Duration::from_secs(59), &[3]), [""; 0]);
        assert_eq!(due(&silent, now + PATIENCE, &[]), ["pod-1"]);
        // Another event of the watch doesn't begin anew with those that were heard.
        silent.observe(&Event::Apply(head(2, "true")), now);
        silent.observe(&Event::Delete(head(1, "true")), now);
        assert_eq!(due(&silent, now + 2 * PATIENCE, &[]), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_hasnt_started_is_looked_at_ever_more_rarely() {
        let (silent, mut now) = (Silent::default(), Instant::now());
        silent.observe(&Event::Apply(head(1, "true")), now);
        now += PATIENCE;
        let mut pauses = Vec::new();
        for _ in 0..5 {
            silent.later(&uid(1), None, now);
            let mut pause = Duration::ZERO;
            while due(&silent, now + pause, &[]).is_empty() {
                pause += Duration::from_secs(30);
            }
            pauses.push(pause.as_secs());
            now += pause;
        }
        assert_eq!(pauses, [120, 240, 480, 600, 600]);
        silent.later(&uid(1), Some(Duration::from_secs(7)), now);
        assert_eq!(due(&silent, now + Duration::from_secs(7), &[]), ["pod-1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_new_list_doesnt_have_is_forgotten() {
        let (silent, now) = (Silent::default(), Instant::now());
        for number in 1..=2 {
            silent.observe(&Event::Apply(head(number, "true")), now);
        }
        silent.observe(&Event::Init, now);
        silent.observe(&Event::InitApply(head(2, "true")), now);
        silent.observe(&Event::InitDone, now);
        assert_eq!(due(&silent, now + PATIENCE, &[]), ["pod-2"]);
    }

    #[test]
    fn only_a_sidecar_that_has_run_for_a_minute_is_silent() {
        let pod = |status: Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"uid": "u"}, "status": status})).unwrap()
        };
        let running = |name: &str| {
            pod(json!({"phase": "Pending", "initContainerStatuses": [{
                "name": name, "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            }]}))
        };
        let start = 1_767_225_600;
        let table = vec![
            (None, "u", 0, Seen::Gone),
            (Some(running(CONTAINER_NAME)), "other", 60, Seen::Gone),
            (Some(pod(json!({"phase": "Failed"}))), "u", 60, Seen::Gone),
            (Some(pod(json!({"phase": "Pending"}))), "u", 60, Seen::NotYet(None)),
            (Some(running("setup")), "u", 60, Seen::NotYet(None)),
            (
                Some(running(CONTAINER_NAME)),
                "u",
                18,
                Seen::NotYet(Some(Duration::from_secs(42))),
            ),
            (Some(running(CONTAINER_NAME)), "u", 60, Seen::Silent),
            (Some(running(CONTAINER_NAME)), "u", -5, Seen::NotYet(Some(PATIENCE))),
        ];
        for (pod, uid, seconds, wanted) in table {
            assert_eq!(
                seen(uid, pod.as_ref(), start + seconds),
                wanted,
                "{pod:?} after {seconds} s"
            );
        }
    }

    #[test]
    fn the_note_fits_into_an_event() {
        let long = LivePod {
            uid: uid(1),
            namespace: "n".repeat(63),
            name: "p".repeat(63),
        };
        let note = note(&long, "https://agentwrit-broker.agentwrit-system.svc:8443");
        assert!(note.len() <= 1000, "{}", note.len());
        for part in [
            "DNS",
            "NetworkPolicy",
            "agentwrit-ca",
            "audience",
            "-c agentwrit-sidecar",
        ] {
            assert!(note.contains(part), "{note}");
        }
    }
}
