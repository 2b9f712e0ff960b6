//! Pods of which the broker hasn't heard yet: a bounded table that no namespace fills for the others.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use agentwrit_protocol::k8s::LivePod;
use tokio::time::Instant;

/// To be looked at from `next` on; if its sidecar isn't running then, after twice the pause.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) pod: LivePod,
    pub(super) next: Instant,
    pub(super) pause: Duration,
}

/// The pods that wait, by UID.
#[derive(Debug)]
pub(super) struct Waiting {
    room: usize,
    pods: HashMap<u128, (u64, Wait)>,
    /// Of each namespace, in the order in which they came.
    namespaces: HashMap<String, BTreeMap<u64, u128>>,
    arrivals: u64,
}

impl Waiting {
    /// A table for `room` pods.
    pub(super) fn new(room: usize) -> Self {
        Self {
            room,
            pods: HashMap::new(),
            namespaces: HashMap::new(),
            arrivals: 0,
        }
    }

    /// Takes in a pod that isn't there yet. When there is no room, the oldest pod of the namespace with most makes it;
    /// answers whether one did.
    pub(super) fn add(&mut self, number: u128, wait: Wait) -> bool {
        if self.pods.contains_key(&number) {
            return false;
        }
        let is_full = self.pods.len() >= self.room;
        if is_full {
            let most = self.namespaces.iter().max_by_key(|(name, pods)| (pods.len(), *name));
            if let Some(oldest) = most.and_then(|(_, pods)| pods.values().next().copied()) {
                self.remove(oldest);
            }
        }
        self.arrivals = self.arrivals.wrapping_add(1);
        let namespace = self.namespaces.entry(wait.pod.namespace.clone()).or_default();
        namespace.insert(self.arrivals, number);
        self.pods.insert(number, (self.arrivals, wait));
        is_full
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, number: u128) -> bool {
        let Some((arrival, wait)) = self.pods.remove(&number) else {
            return false;
        };
        if let Some(namespace) = self.namespaces.get_mut(&wait.pod.namespace) {
            namespace.remove(&arrival);
            if namespace.is_empty() {
                self.namespaces.remove(&wait.pod.namespace);
            }
        }
        true
    }

    /// Keeps those that `is_right` says.
    pub(super) fn retain(&mut self, is_right: impl Fn(u128) -> bool) {
        let wrong = self.pods.keys().copied().filter(|number| !is_right(*number));
        for number in wrong.collect::<Vec<_>>() {
            self.remove(number);
        }
    }

    pub(super) fn get_mut(&mut self, number: u128) -> Option<&mut Wait> {
        self.pods.get_mut(&number).map(|(_, wait)| wait)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Wait> {
        self.pods.values().map(|(_, wait)| wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(waiting: &mut Waiting, number: u128, namespace: &str) -> bool {
        let pod = LivePod {
            uid: number.to_string().into(),
            namespace: namespace.into(),
            name: format!("pod-{number}"),
        };
        let (next, pause) = (Instant::now(), Duration::ZERO);
        waiting.add(number, Wait { pod, next, pause })
    }

    fn names(waiting: &Waiting) -> Vec<&str> {
        let mut names: Vec<&str> = waiting.all().map(|wait| &*wait.pod.name).collect();
        names.sort_unstable();
        names
    }

    #[tokio::test]
    async fn a_namespace_with_many_makes_room_for_the_others() {
        let mut waiting = Waiting::new(4);
        assert!(!add(&mut waiting, 1, "quiet"));
        for number in 2..=4 {
            assert!(!add(&mut waiting, number, "crowd"));
        }
        assert!(!add(&mut waiting, 4, "crowd"), "it is there already");
        assert!(add(&mut waiting, 5, "other"));
        assert_eq!(names(&waiting), ["pod-1", "pod-3", "pod-4", "pod-5"]);
        for number in 6..=9 {
            assert!(add(&mut waiting, number, "crowd"));
        }
        assert_eq!(names(&waiting), ["pod-1", "pod-5", "pod-8", "pod-9"]);
    }

    #[tokio::test]
    async fn a_pod_that_leaves_makes_room() {
        let mut waiting = Waiting::new(2);
        add(&mut waiting, 1, "a");
        add(&mut waiting, 2, "a");
        assert!(waiting.remove(1) && !waiting.remove(1));
        assert!(!add(&mut waiting, 3, "b"));
        waiting.retain(|number| number == 3);
        assert!(!add(&mut waiting, 4, "b"));
        assert_eq!(names(&waiting), ["pod-3", "pod-4"]);
        assert_eq!(waiting.namespaces.len(), 1, "no empty namespace is kept");
    }
}
