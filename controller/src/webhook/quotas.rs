//! Which namespaces have a `ResourceQuota` that refuses containers without a CPU limit: from the watch alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ResourceQuota;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use parking_lot::RwLock;

use crate::metrics::Metrics;
use crate::reconcile::watches;

/// With it in `spec.hard`, the API server refuses a pod with a container that has no CPU limit.
const LIMITS_CPU: &str = "limits.cpu";

/// Quotas by namespace: names of those with [`LIMITS_CPU`].
type Found = BTreeMap<String, BTreeSet<String>>;

/// The quotas that matter, as the watch brings them.
#[derive(Debug, Default)]
pub struct CpuQuotas(RwLock<State>);

#[derive(Debug, Default)]
struct State {
    /// `None` until the first list is complete.
    known: Option<Found>,
    /// The list that is under way.
    listed: Found,
}

impl CpuQuotas {
    /// Whether a sidecar in this namespace has to have a CPU limit. So it has as long as that isn't known: a limit is right
    /// everywhere, and costs only what it reserves.
    pub(crate) fn limit_cpu(&self, namespace: &str) -> bool {
        let state = self.0.read();
        state.known.as_ref().is_none_or(|known| known.contains_key(namespace))
    }

    fn observe(&self, event: &Event<ResourceQuota>) {
        let State { known, listed } = &mut *self.0.write();
        match (event, known) {
            (Event::Init, _) => listed.clear(),
            (Event::InitApply(quota), _) => put(listed, quota),
            (Event::InitDone, known) => *known = Some(std::mem::take(listed)),
            (Event::Apply(quota), Some(known)) => put(known, quota),
            (Event::Delete(quota), Some(known)) => remove(known, quota),
            // Nothing comes before the first list.
            (Event::Apply(_) | Event::Delete(_), None) => {}
        }
    }
}

fn put(found: &mut Found, quota: &ResourceQuota) {
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    if hard.is_some_and(|hard| hard.contains_key(LIMITS_CPU)) {
        let namespace = quota.namespace().unwrap_or_default();
        found.entry(namespace).or_default().insert(quota.name_any());
    } else {
        remove(found, quota);
    }
}

fn remove(found: &mut Found, quota: &ResourceQuota) {
    let namespace = quota.namespace().unwrap_or_default();
    if let Some(names) = found.get_mut(&namespace) {
        names.remove(&quota.name_any());
        if names.is_empty() {
            found.remove(&namespace);
        }
    }
}

/// Follows the quotas of all namespaces; runs for ever.
pub(crate) async fn watch(client: Client, quotas: Arc<CpuQuotas>, metrics: Arc<Metrics>) {
    let stream = watcher(Api::<ResourceQuota>::all(client), watcher::Config::default()).default_backoff();
    watches::for_each_event(stream, "resourcequotas", metrics, |event| quotas.observe(event)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn quota(name: &str, hard: &[&str]) -> ResourceQuota {
        let hard: BTreeMap<_, _> = hard.iter().map(|name| (*name, "1")).collect();
        let quota = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {"hard": hard}});
        serde_json::from_value(quota).unwrap()
    }

    #[test]
    fn a_limit_is_wanted_while_a_quota_of_the_namespace_asks_for_it() {
        let quotas = CpuQuotas::default();
        assert!(quotas.limit_cpu("shop"), "not known yet");
        quotas.observe(&Event::Init);
        quotas.observe(&Event::InitApply(quota("cpu", &["limits.cpu", "pods"])));
        quotas.observe(&Event::InitApply(quota("pods", &["pods", "requests.cpu"])));
        assert!(quotas.limit_cpu("other"), "half a list says nothing");
        quotas.observe(&Event::InitDone);
        assert!(quotas.limit_cpu("shop") && !quotas.limit_cpu("other"));

        quotas.observe(&Event::Apply(quota("more", &["limits.cpu"])));
        quotas.observe(&Event::Delete(quota("cpu", &["limits.cpu"])));
        assert!(quotas.limit_cpu("shop"), "there is another one");
        quotas.observe(&Event::Apply(quota("more", &["limits.memory"])));
        assert!(!quotas.limit_cpu("shop"), "it was changed");
        assert_eq!(
            quotas.0.read().known,
            Some(Found::new()),
            "nothing is kept of the others"
        );
    }

    #[test]
    fn a_new_list_replaces_what_was_known() {
        let quotas = CpuQuotas::default();
        for hard in [&["limits.cpu"][..], &[]] {
            quotas.observe(&Event::Init);
            quotas.observe(&Event::InitApply(quota("cpu", hard)));
            quotas.observe(&Event::InitDone);
            assert_eq!(quotas.limit_cpu("shop"), !hard.is_empty());
        }
    }
}
