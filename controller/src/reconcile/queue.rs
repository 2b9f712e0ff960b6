//! What has to be reconciled: watches and refreshes feed one queue per kind, worked off a few at a time.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config, applier};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use tokio::sync::mpsc;

use super::policy_resource::PolicyResource;
use super::{ReconcileError, Version, reconcile};
use crate::context::Context;

/// Reconciliations of one kind at once.
const CONCURRENCY: u16 = 16;
/// After a failure that doesn't say by itself how long to wait.
const RETRY_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Queue<K: PolicyResource> {
    sender: mpsc::UnboundedSender<ObjectRef<DeserializeGuard<K>>>,
}

impl<K: PolicyResource> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
        }
    }
}

/// The other end of a [`Queue`].
pub(crate) type Requests<K> = mpsc::UnboundedReceiver<ObjectRef<DeserializeGuard<K>>>;

impl<K: PolicyResource> Queue<K> {
    /// A queue and its other end.
    pub(crate) fn new() -> (Self, Requests<K>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender }, receiver)
    }

    pub(crate) fn add(&self, reference: ObjectRef<DeserializeGuard<K>>) {
        // The receiver is gone only when the process ends.
        let _ = self.sender.send(reference);
    }

    pub(crate) fn add_all(&self, store: &Store<DeserializeGuard<K>>) {
        for object in store.state() {
            let namespace = object.namespace().unwrap_or_default();
            self.add(ObjectRef::new(&object.name_any()).within(&namespace));
        }
    }
}

/// Works off the requests for ever.
pub(super) async fn work<K: PolicyResource>(
    store: Store<DeserializeGuard<K>>,
    mut requests: Requests<K>,
    context: Arc<Context>,
) {
    let queue = stream::poll_fn(move |task| requests.poll_recv(task).map(|request| request.map(Ok::<_, Infallible>)));
    let error_policy = |object: Arc<DeserializeGuard<K>>, _: &ReconcileError, context: Arc<Context>| {
        let rest = context.backoff.rests(&Version::of(object.as_ref()));
        Action::requeue(rest.unwrap_or(RETRY_AFTER))
    };
    applier(
        |object, context| Box::pin(measured(object, context)),
        error_policy,
        context,
        store,
        queue,
        Config::default().concurrency(CONCURRENCY),
    )
    .for_each(|_| std::future::ready(()))
    .await;
}

async fn measured<K: PolicyResource>(
    object: Arc<DeserializeGuard<K>>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let kind = K::kind(&());
    let timer = context
        .metrics
        .reconcile_seconds
        .with_label_values(&[&*kind])
        .start_timer();
    let result = reconcile(Arc::clone(&object), Arc::clone(&context)).await;
    timer.observe_duration();
    let word = if result.is_ok() { "ok" } else { "error" };
    context.metrics.reconciliations.with_label_values(&[&*kind, word]).inc();
    let version = Version::of(object.as_ref());
    match &result {
        Ok(_) => {
            context.backoff.done(&version);
        }
        Err(pause) if pause.is_a_pause() => {}
        Err(error) => {
            context.backoff.failed(version);
            let reference = object.object_ref(&());
            let reporter = &context.reporter;
            reporter
                .error_on("a reconciliation", error.event(), error, &reference)
                .await;
        }
    }
    result
}
