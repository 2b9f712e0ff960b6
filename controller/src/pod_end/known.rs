//! What the watch, the suspected ends and the comparison know together about pods.

use std::collections::{HashMap, HashSet};

use agentwrit_protocol::PodUid;
use agentwrit_protocol::k8s::LivePod;
use kube::Resource;
use kube::runtime::watcher::Event;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::BrokersPods;
use super::head::PodHead;

/// Which pods exist, which of them the broker holds, and which ends were reported to it.
#[derive(Debug, Default)]
pub(super) struct KnownPods {
    state: Mutex<State>,
    listed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The unfinished pods of the cluster; none until the watch has listed them once.
    present: Option<HashSet<u128>>,
    /// The same, of a list that is under way.
    listing: HashSet<u128>,
    /// The pods that the broker held when it was last asked.
    held: HashSet<PodUid>,
    /// When ends were reported to the broker since then.
    reported: HashMap<PodUid, Instant>,
    /// Ends that are being confirmed or reported.
    under_way: HashSet<PodUid>,
}

impl KnownPods {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Takes in an event of the watch; answers the pod that may have ended.
    pub(super) fn observe(&self, event: &Event<PodHead>) -> Option<LivePod> {
        let mut guard = self.state();
        let state = &mut *guard;
        match event {
            Event::Apply(pod) => {
                if let Some(present) = &mut state.present {
                    present.extend(number_of(pod));
                }
            }
            Event::Delete(pod) => {
                if let (Some(present), Some(number)) = (&mut state.present, number_of(pod)) {
                    present.remove(&number);
                }
                // An unlabelled pod that the broker began to hold after its last list: the next refresh finds it.
                let is_held = pod
                    .meta()
                    .uid
                    .as_ref()
                    .is_some_and(|uid| state.held.contains(uid.as_str()));
                return (is_held || pod.is_labelled()).then(|| pod.live());
            }
            Event::Init => state.listing.clear(),
            Event::InitApply(pod) => state.listing.extend(number_of(pod)),
            Event::InitDone => {
                state.present = Some(std::mem::take(&mut state.listing));
                // What went unseen before this list is found now, not at the next look.
                self.listed.notify_one();
            }
        }
        None
    }

    /// Resolves when the watch has listed all pods again.
    pub(super) async fn listed(&self) {
        self.listed.notified().await;
    }

    /// Records what the broker holds.
    pub(super) fn set_held(&self, list: &BrokersPods) {
        let mut state = self.state();
        state.held = list.pods.iter().map(|pod| pod.uid.clone()).collect();
        // A list requested after our report shows by itself whether the report took effect.
        state.reported.retain(|_, reported| *reported > list.asked);
    }

    /// Those of the broker's pods that the watch doesn't know; none while it has never listed.
    pub(super) fn missing(&self, pods: &[LivePod]) -> Option<Vec<LivePod>> {
        let state = self.state();
        let present = state.present.as_ref()?;
        let is_missing = |pod: &&LivePod| number(&pod.uid).is_none_or(|number| !present.contains(&number));
        Some(pods.iter().filter(is_missing).cloned().collect())
    }

    /// Whether this end was reported after the broker's list was requested.
    pub(super) fn is_reported(&self, uid: &PodUid) -> bool {
        self.state().reported.contains_key(uid)
    }

    /// Claims this end, unless it is claimed already or was just reported.
    pub(super) fn begin(&self, uid: &PodUid) -> bool {
        let mut state = self.state();
        !state.reported.contains_key(uid) && state.under_way.insert(uid.clone())
    }

    /// Ends what [`KnownPods::begin`] began.
    pub(super) fn finish(&self, uid: &PodUid, reported: Option<Instant>) {
        let mut state = self.state();
        state.under_way.remove(uid);
        if let Some(at) = reported {
            state.reported.insert(uid.clone(), at);
        }
    }
}

pub(super) fn number_of(pod: &PodHead) -> Option<u128> {
    number(pod.meta().uid.as_deref()?)
}

/// A UUID in 16 bytes. Anything else is never known to exist, and so read at every comparison.
pub(super) fn number(uid: &str) -> Option<u128> {
    if uid.len() != 36 {
        return None;
    }
    let digits: String = uid.split('-').collect();
    (digits.len() == 32)
        .then(|| u128::from_str_radix(&digits, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentwrit_protocol::inject::LABEL_INJECTED;
    use serde_json::json;
    use std::time::Duration;

    fn uid(number: u8) -> PodUid {
        format!("00000000-0000-4000-8000-0000000000{number:02x}").into()
    }

    fn pod(number: u8, label: Option<&str>) -> PodHead {
        let pod = json!({"metadata": {
            "uid": uid(number), "name": format!("pod-{number}"), "namespace": "shop",
            "labels": {LABEL_INJECTED: label},
        }});
        serde_json::from_value(pod).unwrap()
    }

    fn brokers(numbers: &[u8]) -> BrokersPods {
        BrokersPods {
            pods: numbers.iter().map(|number| pod(*number, None).live()).collect(),
            store: "store".into(),
            lead: 1,
            asked: Instant::now(),
        }
    }

    fn missing(known: &KnownPods, list: &BrokersPods) -> Option<Vec<String>> {
        let missing = known.missing(&list.pods)?;
        Some(missing.into_iter().map(|pod| pod.name).collect())
    }

    #[test]
    fn a_deletion_is_a_hint_by_label_or_by_the_brokers_list() {
        let known = KnownPods::default();
        known.set_held(&brokers(&[1]));
        let suspected = |event| known.observe(&event).map(|pod| pod.name);
        assert_eq!(suspected(Event::Delete(pod(1, None))).as_deref(), Some("pod-1"));
        assert_eq!(suspected(Event::Delete(pod(1, Some("no")))).as_deref(), Some("pod-1"));
        assert_eq!(suspected(Event::Delete(pod(2, Some("true")))).as_deref(), Some("pod-2"));
        assert_eq!(suspected(Event::Delete(pod(3, None))), None, "somebody else's pod");
        assert_eq!(
            suspected(Event::Apply(pod(1, None))),
            None,
            "the label alone was taken off"
        );
    }

    #[test]
    fn running_pods_without_the_label_are_not_missing() {
        let known = KnownPods::default();
        let list = brokers(&[1, 2]);
        assert_eq!(missing(&known, &list), None, "nothing has been listed");
        known.observe(&Event::Init);
        known.observe(&Event::InitApply(pod(1, None)));
        known.observe(&Event::InitDone);
        assert_eq!(missing(&known, &list), Some(vec!["pod-2".into()]));
        known.observe(&Event::Apply(pod(2, None)));
        assert_eq!(missing(&known, &list), Some(vec![]));
        known.observe(&Event::Delete(pod(1, None)));
        assert_eq!(missing(&known, &list), Some(vec!["pod-1".into()]));
        // The watch broke and lists again: 2 went unseen.
        known.observe(&Event::Init);
        assert_eq!(missing(&known, &list), Some(vec!["pod-1".into()]), "a list under way");
        known.observe(&Event::InitDone);
        assert_eq!(missing(&known, &list), Some(vec!["pod-1".into(), "pod-2".into()]));
    }

    #[test]
    fn a_uid_that_is_no_uuid_is_always_missing() {
        let known = KnownPods::default();
        known.observe(&Event::InitDone);
        for odd in ["", "a", "+0000000-0000-4000-8000-00000000000", &"-".repeat(36)] {
            let pods = [LivePod {
                uid: odd.into(),
                ..pod(1, None).live()
            }];
            assert_eq!(known.missing(&pods).map(|pods| pods.len()), Some(1), "{odd}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_is_reported_once_until_the_broker_has_the_pod_again() {
        let known = KnownPods::default();
        let before = brokers(&[1]);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(known.begin(&uid(1)));
        assert!(!known.begin(&uid(1)), "somebody does it already");
        known.finish(&uid(1), Some(Instant::now()));
        known.set_held(&before);
        assert!(
            known.is_reported(&uid(1)) && !known.begin(&uid(1)),
            "the answer is older"
        );
        tokio::time::advance(Duration::from_millis(1)).await;
        known.set_held(&brokers(&[1]));
        assert!(known.begin(&uid(1)), "the broker holds it again");
        known.finish(&uid(1), None);
        assert!(known.begin(&uid(1)), "it could not be told");
    }
}
