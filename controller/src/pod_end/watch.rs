//! The watch of all pods' metadata: which exist, and which have just gone.

use std::sync::Arc;

use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, ResourceExt};
use tokio::time::Instant;

use super::head::PodHead;
use super::known::KnownPods;
use super::{NOT_FINISHED, PAGE, SuspectedEnds};
use crate::context::Context;
use crate::reconcile::watches::for_each_event;

/// Watches all unfinished pods of the cluster; passes on those that leave, and asks for the CA where labelled ones are.
/// Runs for ever.
///
/// All pods, not those with our label: a pod's author may take the label off, and a pod that was restored or
/// copied may never have had it. Of each pod 16 bytes are kept ([`KnownPods`]),
/// of those with our label 16 more, and name and namespace until the broker has heard of them ([`super::SilentPods`]).
pub(super) async fn watch(context: Arc<Context>, known: Arc<KnownPods>, suspected_ends: SuspectedEnds) {
    let config = watcher::Config::default().fields(NOT_FINISHED).page_size(PAGE);
    let stream = watch_objects(Api::<PodHead>::all(context.client.clone()), config).default_backoff();
    for_each_event(stream, "pods", Arc::clone(&context.metrics), |event| {
        if let Event::Apply(pod) | Event::InitApply(pod) = event
            && pod.is_labelled()
        {
            context.needs_ca(pod.namespace().unwrap_or_default());
        }
        context.silent.observe(event, Instant::now());
        if let Some(pod) = known.observe(event) {
            // When the queue is full, the next comparison finds this end.
            let _ = suspected_ends.try_send(pod);
        }
    })
    .await;
}
