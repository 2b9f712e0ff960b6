//! Pods whose sidecar runs but never reached the broker: each gets one Warning Event.
//!
//! A pod whose launch was refused has an Event of its own; here it is about those whose request never arrived, or not
//! as that of a pod.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::inject::CONTAINER_NAME;
use agentwrit_protocol::k8s::LivePod;
use agentwrit_protocol::{Clock, PodUid, UnixSeconds};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::runtime::events::EventType;
use kube::runtime::watcher::Event;
use kube::{Api, Client, Resource};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::head::PodHead;
use super::known::number_of;
use super::waiting::{Wait, Waiting};
use super::{API_TIMEOUT, BrokersPods, known};
use crate::kubernetes_time::second;
use crate::leader::leadership::Leadership;
use crate::metrics::Metrics;
use crate::report::Reporter;

/// How long the sidecar runs before it is reported: it asks the broker within its first second.
const REPORT_AFTER: Duration = Duration::from_mins(1);
/// A pod that hasn't started is looked at ever more rarely, at least this often.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// When the broker hasn't answered for so long, it was away. Looks come every 10 s.
const BROKER_AWAY_AFTER: Duration = Duration::from_secs(30);
/// How long sidecars have after that: they pause up to 80 s, and a busy broker takes its time.
const CATCH_UP: Duration = Duration::from_secs(100);
/// Pods that wait to be heard of at once.
const MAX_PODS: usize = 16_384;
/// Pods that are read after one refresh of the broker's list.
const MAX_READS: usize = 32;
/// Reason of the Event.
const NO_LAUNCH_REQUEST: &str = "NoLaunchRequest";

/// The pods with our label, and whether the broker has heard of them.
#[derive(Debug)]
pub(crate) struct SilentPods {
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct State {
    waiting: Waiting,
    /// The broker has heard of them, or an Event says that it hasn't.
    settled: HashSet<u128>,
    /// Those of a list that is under way.
    listing: HashSet<u128>,
    /// Since when the broker has been answering, and when it was last asked.
    answers: Option<(Instant, Instant)>,
}

impl SilentPods {
    /// Follows no pod yet; counts in `metrics` those that it has no room for.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: Waiting::new(MAX_PODS),
                settled: HashSet::new(),
                listing: HashSet::new(),
                answers: None,
            }),
            metrics,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Takes in an event of the watch.
    pub(super) fn observe(&self, event: &Event<PodHead>, now: Instant) {
        let mut guard = self.state();
        let state = &mut *guard;
        let mut dropped = false;
        match event {
            Event::Apply(pod) => dropped = state.follow(pod, now),
            Event::Delete(pod) => {
                if let Some(number) = number_of(pod) {
                    state.waiting.remove(number);
                    state.settled.remove(&number);
                }
            }
            Event::Init => state.listing.clear(),
            Event::InitApply(pod) => {
                if pod.is_labelled() {
                    state.listing.extend(number_of(pod));
                }
                dropped = state.follow(pod, now);
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut state.listing);
                state.waiting.retain(|number| listed.contains(&number));
                state.settled.retain(|number| listed.contains(number));
            }
        }
        if dropped {
            self.metrics.silent_pods_dropped.inc();
        }
    }

    /// The broker has heard of this pod.
    pub(crate) fn settle(&self, uid: &PodUid) {
        self.state().settle(uid);
    }

    /// Those that are due, and that the broker hadn't heard of when it was asked. None for a while after it has been away:
    /// the sidecars ask it again only after their pauses.
    fn due(&self, list: &BrokersPods) -> Vec<LivePod> {
        let mut state = self.state();
        for pod in &list.pods {
            state.settle(&pod.uid);
        }
        if list.asked < state.answering_since(list.asked) + CATCH_UP {
            return Vec::new();
        }
        let due = state.waiting.all().filter(|wait| wait.next <= list.asked);
        let mut due: Vec<(Instant, LivePod)> = due.map(|wait| (wait.next, wait.pod.clone())).collect();
        due.sort_by_key(|(next, _)| *next);
        due.truncate(MAX_READS);
        due.into_iter().map(|(_, pod)| pod).collect()
    }

    /// The pod isn't to be reported yet: it is due again after `rest`, or after twice the last pause.
    fn later(&self, uid: &PodUid, rest: Option<Duration>, now: Instant) {
        let mut state = self.state();
        if let Some(wait) = known::number(uid).and_then(|number| state.waiting.get_mut(number)) {
            if rest.is_none() {
                wait.pause = wait.pause.saturating_mul(2).min(LONGEST_PAUSE);
            }
            wait.next = now + rest.unwrap_or(wait.pause);
        }
    }
}

impl State {
    fn settle(&mut self, uid: &PodUid) {
        if let Some(number) = known::number(uid)
            && self.waiting.remove(number)
        {
            self.settled.insert(number);
        }
    }

    /// Answers whether another pod is no longer followed because of this one.
    fn follow(&mut self, pod: &PodHead, now: Instant) -> bool {
        let number = number_of(pod).filter(|number| pod.is_labelled() && !self.settled.contains(number));
        let Some(number) = number else {
            return false;
        };
        let wait = Wait {
            pod: pod.live(),
            next: now + REPORT_AFTER,
            pause: REPORT_AFTER,
        };
        self.waiting.add(number, wait)
    }

    /// Since when the broker has answered without a long break; it did when it was asked at `asked`.
    fn answering_since(&mut self, asked: Instant) -> Instant {
        let (since, _) = *self
            .answers
            .filter(|(_, last)| asked <= *last + BROKER_AWAY_AFTER)
            .get_or_insert((asked, asked));
        self.answers = Some((since, asked));
        since
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

fn seen(uid: &PodUid, pod: Option<&Pod>, now: UnixSeconds) -> Seen {
    let Some(pod) = pod.filter(|pod| pod.meta().uid.as_deref() == Some(uid.as_str())) else {
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
    let runs = (now - second(started)).duration();
    match REPORT_AFTER.checked_sub(runs) {
        Some(rest) if !rest.is_zero() => Seen::NotYet(Some(rest)),
        _ => Seen::Silent,
    }
}

/// Writes the Events about silent pods.
pub(super) struct SilentPodReporter {
    pub(super) client: Client,
    /// Whether we may write.
    pub(super) leadership: Leadership,
    /// Which pods there are.
    pub(super) silent: Arc<SilentPods>,
    pub(super) reporter: Reporter,
    pub(super) clock: Arc<dyn Clock>,
    /// Where the sidecars look for the broker.
    pub(super) broker_url: String,
}

impl SilentPodReporter {
    /// Checks what is due after each refresh of the broker's list; runs for ever.
    pub(super) async fn run(self, mut refreshes: watch::Receiver<Option<Arc<BrokersPods>>>) {
        while refreshes.changed().await.is_ok() {
            let list = refreshes.borrow_and_update().clone();
            if let Some(list) = list
                && self.leadership.claim().map(|claim| claim.epoch) == Some(list.lead)
            {
                for pod in self.silent.due(&list) {
                    self.check(&pod).await;
                }
            }
        }
    }

    async fn check(&self, pod: &LivePod) {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        let Ok(Ok(found)) = timeout(API_TIMEOUT, api.get_opt(&pod.name)).await else {
            // The comparison of pods reports an API server that doesn't answer.
            return self.silent.later(&pod.uid, None, Instant::now());
        };
        match seen(&pod.uid, found.as_ref(), self.clock.unix_seconds()) {
            Seen::Gone => self.silent.settle(&pod.uid),
            Seen::NotYet(rest) => self.silent.later(&pod.uid, rest, Instant::now()),
            Seen::Silent if self.report(pod).await => self.silent.settle(&pod.uid),
            // Once more after the next refresh, after those that have been due for longer.
            Seen::Silent => self.silent.later(&pod.uid, Some(Duration::ZERO), Instant::now()),
        }
    }

    /// Returns whether the Event was written.
    async fn report(&self, pod: &LivePod) -> bool {
        let reference = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(pod.namespace.clone()),
            name: Some(pod.name.clone()),
            uid: Some(pod.uid.to_string()),
            ..ObjectReference::default()
        };
        tracing::warn!(
            namespace = pod.namespace,
            pod = pod.name,
            uid = pod.uid.as_str(),
            "a pod's sidecar is running, but the broker got no request from it"
        );
        let note = note(pod, &self.broker_url);
        self.reporter
            .event(EventType::Warning, NO_LAUNCH_REQUEST, "Launch", &note, &reference)
            .await
    }
}

fn note(pod: &LivePod, broker_url: &str) -> String {
    format!(
        "The sidecar has been running for {} s, and no launch request of this pod has reached the broker at {broker_url}. \
         Look what the sidecar says: kubectl -n {} logs {} -c {CONTAINER_NAME}. Likely causes: the pod's DNS doesn't \
         find the broker; a NetworkPolicy doesn't let it through; the ConfigMap agentwrit-ca holds another CA than the \
         broker's; the pod's ServiceAccount token has another audience than the broker wants (an audit event \
         attestation_denied then says so).",
        REPORT_AFTER.as_secs(),
        pod.namespace,
        pod.name,
    )
}

#[cfg(test)]
mod tests;
