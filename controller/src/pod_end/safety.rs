//! What happens when most pods are gone at once: the controller may see another cluster than it should.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use agentwrit_protocol::PodUid;
use agentwrit_protocol::k8s::LivePod;
use tokio::time::Instant;

use super::Gone;

/// Up to this many ends at once need no second comparison: one pod of one is always more than half.
const ALWAYS_ALLOWED: usize = 10;
/// After this long, a pod that is still gone has ended.
const SECOND_COMPARISON: Duration = Duration::from_mins(1);

/// The ends that wait for a second comparison.
#[derive(Debug, Default)]
pub(super) struct Safety {
    /// When each was first found gone.
    waiting: HashMap<PodUid, Instant>,
    /// When it was last reported that most are gone.
    reported: Option<Instant>,
}

/// What becomes of the pods that were found gone.
#[derive(Debug, Default)]
pub(super) struct Decision {
    pub(crate) end: Vec<Gone>,
    /// How many wait for a second comparison from now on.
    pub(crate) held_back: usize,
    /// How many are gone, with those that wait.
    pub(crate) gone: usize,
    /// Whether most are gone and that has to be reported: some are new, and they wait or nothing was reported for a
    /// minute.
    pub(crate) report: bool,
}

/// Of how many pods how many are gone.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    gone: usize,
    all: usize,
}

impl Count {
    fn most_are_gone(self) -> bool {
        self.gone > ALWAYS_ALLOWED && self.gone > self.all / 2
    }

    fn without(self, other: Self) -> Self {
        Self {
            gone: self.gone.saturating_sub(other.gone),
            all: self.all.saturating_sub(other.all),
        }
    }
}

impl Safety {
    /// Whether the pod waits, and its second comparison isn't due yet.
    pub(super) fn rests(&self, uid: &PodUid, now: Instant) -> bool {
        self.waiting.get(uid).is_some_and(|since| !is_due(*since, now))
    }

    /// Decides about the pods `gone` of all the broker's pods. What has waited for its second comparison ends. Of the
    /// others, a namespace's wait when most of the broker's pods are gone, and would be so whichever *other* namespace
    /// were left out (with [`ALWAYS_ALLOWED`] too): one namespace can't delay the end of another's pods.
    pub(super) fn decide(&mut self, all: &[LivePod], gone: Vec<Gone>, running: &[PodUid], now: Instant) -> Decision {
        for uid in running {
            self.waiting.remove(uid);
        }
        let held: HashSet<&PodUid> = all.iter().map(|pod| &pod.uid).collect();
        self.waiting.retain(|uid, _| held.contains(uid));

        let found: HashSet<&PodUid> = gone.iter().map(|gone| &gone.pod.uid).collect();
        let mut whole = Count::default();
        let mut namespaces: BTreeMap<&str, Count> = BTreeMap::new();
        for pod in all {
            let is_gone = found.contains(&pod.uid) || self.waiting.contains_key(&pod.uid);
            for count in [&mut whole, namespaces.entry(&pod.namespace).or_default()] {
                count.all += 1;
                count.gone += usize::from(is_gone);
            }
        }
        // Namespaces without whose pods it wouldn't be most. One of them decides about itself alone; of two, neither
        // can decide about the other.
        let deciding: Vec<&str> = namespaces
            .iter()
            .filter(|(_, count)| !whole.without(**count).most_are_gone())
            .map(|(namespace, _)| *namespace)
            .collect();
        let waits = |namespace: &str| whole.most_are_gone() && deciding.iter().all(|deciding| *deciding == namespace);

        let mut decision = Decision {
            gone: whole.gone,
            ..Decision::default()
        };
        let mut any_new = false;
        for gone in gone {
            any_new |= !self.waiting.contains_key(&gone.pod.uid);
            match self.waiting.get(&gone.pod.uid) {
                Some(since) if is_due(*since, now) => decision.end.push(gone),
                Some(_) => {}
                None if waits(&gone.pod.namespace) => {
                    self.waiting.insert(gone.pod.uid, now);
                    decision.held_back += 1;
                }
                None => decision.end.push(gone),
            }
        }
        let was_reported = self.reported.is_some_and(|at| !is_due(at, now));
        decision.report = decision.held_back > 0 || (any_new && whole.most_are_gone() && !was_reported);
        if decision.report {
            self.reported = Some(now);
        }
        decision
    }
}

fn is_due(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) >= SECOND_COMPARISON
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(namespace: &str, count: usize) -> Vec<LivePod> {
        let pod = |number| LivePod {
            uid: format!("{namespace}-{number}").into(),
            namespace: namespace.into(),
            name: format!("pod-{number}"),
        };
        (0..count).map(pod).collect()
    }

    fn gone(pods: &[LivePod]) -> Vec<Gone> {
        let gone = |pod: &LivePod| Gone {
            pod: pod.clone(),
            reason: "deleted",
        };
        pods.iter().map(gone).collect()
    }

    /// (ended, held back)
    fn decide(safety: &mut Safety, all: &[LivePod], found: &[LivePod], now: Instant) -> (usize, usize) {
        let decision = safety.decide(all, gone(found), &[], now);
        (decision.end.len(), decision.held_back)
    }

    #[test]
    fn more_than_half_wait_a_minute_and_then_end() {
        let (mut safety, start) = (Safety::default(), Instant::now());
        let all = [pods("a", 24), pods("b", 24)].concat();
        let found = [pods("a", 13), pods("b", 13)].concat();
        assert_eq!(decide(&mut safety, &all, &found, start), (0, 26));
        assert!(!safety.decide(&all, gone(&found), &[], start).report, "told once");
        let early = start + SECOND_COMPARISON.saturating_sub(Duration::from_millis(1));
        assert!(found.iter().all(|pod| safety.rests(&pod.uid, early)));
        assert_eq!(decide(&mut safety, &all, &found, early), (0, 0));
        let due = start + SECOND_COMPARISON;
        assert!(!found.iter().any(|pod| safety.rests(&pod.uid, due)));
        let decision = safety.decide(&all, gone(&found), &[], due);
        assert_eq!(
            (decision.end.len(), decision.held_back, decision.report),
            (26, 0, false)
        );
    }

    #[test]
    fn up_to_half_or_ten_end_at_once() {
        let start = Instant::now();
        let all = [pods("a", 12), pods("b", 12)].concat();
        let half = [pods("a", 6), pods("b", 6)].concat();
        assert_eq!(decide(&mut Safety::default(), &all, &half, start), (12, 0));
        let ten = [pods("a", 5), pods("b", 5)].concat();
        assert_eq!(decide(&mut Safety::default(), &ten, &ten, start), (10, 0));
    }

    #[test]
    fn ends_of_most_of_a_small_namespace_are_reported_at_once() {
        // Without the other, neither loses more than ten.
        let all = [pods("a", 8), pods("b", 8)].concat();
        let decision = Safety::default().decide(&all, gone(&all), &[], Instant::now());
        assert_eq!((decision.end.len(), decision.held_back, decision.report), (16, 0, true));
        let some = gone(&pods("a", 8));
        assert!(!Safety::default().decide(&all, some, &[], Instant::now()).report);
    }

    #[test]
    fn a_cluster_of_one_namespace_is_guarded_too() {
        let (mut safety, start) = (Safety::default(), Instant::now());
        let all = pods("a", 11);
        assert_eq!(decide(&mut safety, &all, &all, start), (0, 11));
        assert_eq!(decide(&mut safety, &all, &all, start + SECOND_COMPARISON), (11, 0));
    }

    #[test]
    fn one_namespace_does_not_delay_the_ends_of_others() {
        let start = Instant::now();
        let others = [pods("a", 20), pods("b", 1)].concat();
        let theirs = [pods("a", 3), pods("b", 1)].concat();
        for count in [11, 100, 5000] {
            let mine = pods("mine", count);
            let all = [others.clone(), mine.clone()].concat();
            let mut safety = Safety::default();
            let decision = safety.decide(&all, gone(&[theirs.clone(), mine.clone()].concat()), &[], start);
            let ended = decision.end.iter().filter(|gone| gone.pod.namespace != "mine").count();
            assert_eq!(ended, 4, "beside {count} pods of one namespace");
            // While the many wait, later ones of others still end at once.
            let later = pods("a", 5).split_off(3);
            assert_eq!(decide(&mut safety, &all, &later, start).0, 2);
        }
    }

    #[test]
    fn a_pod_that_runs_after_all_waits_no_longer() {
        let (mut safety, start) = (Safety::default(), Instant::now());
        let all = pods("a", 11);
        assert_eq!(decide(&mut safety, &all, &all, start), (0, 11));
        let uids: Vec<PodUid> = all.iter().map(|pod| pod.uid.clone()).collect();
        let due = start + SECOND_COMPARISON;
        assert!(safety.decide(&all, Vec::new(), &uids, due).end.is_empty());
        assert!(safety.waiting.is_empty());
        assert_eq!(decide(&mut safety, &all, &all, due), (0, 11), "begins again");
        assert_eq!(decide(&mut safety, &[], &[], due), (0, 0));
        assert!(
            safety.waiting.is_empty(),
            "what the broker no longer holds is forgotten"
        );
    }
}
