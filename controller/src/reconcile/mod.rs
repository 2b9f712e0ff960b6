//! From a custom resource to broker policy, condition and finalizer: level-triggered and idempotent.
//!
//! [`watches`] fill a cache of each kind, without what is never read, and put what changed into the [`queue`] of its
//! kind: an `AgentApp` also asks for its `LaunchToken`s. Every refresh of the broker's list (`leader/broker_sync.rs`)
//! puts all objects into the queues. kube's `applier` works each queue off: sixteen objects at once, never the same
//! object twice at the same time. It starts when all caches are filled.
//! A run ([`reconcile`]) returns at once unless this replica leads and knows the broker's list. Otherwise `reconciliation.rs` sets the finalizer,
//! computes what the broker should hold ([`desired`]), sends it if the broker holds something else, and writes the
//! conditions ([`condition`], `status.rs`) if they differ. After a failure the object waits (`backoff.rs`) until its time
//! has come or a user changes it. Why this isn't `kube::runtime::Controller`: `docs/adr/0012-the-controllers-loop.md`.

pub(crate) mod condition;
pub(crate) mod desired;
mod error;
pub(crate) mod policy_resource;
pub(crate) mod queue;
mod reconciliation;
mod status;
mod token_size;
mod tokens_by_app;
pub(crate) mod watches;
mod written;

use std::sync::Arc;

use agentwrit_crds::{AgentApp, LaunchToken};
use agentwrit_protocol::inject::ANNOTATION_RELEASE_FINALIZER;
use agentwrit_protocol::{PolicyUid, UnixSeconds};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use tokio::task::JoinSet;

use crate::context::{Context, ReconcileFeeds};
use crate::kubernetes_time::second;
use crate::leader::broker_sync::BrokerSync;
pub(crate) use error::ReconcileError;
use policy_resource::PolicyResource;
use queue::Requests;
use reconciliation::Reconciliation;
pub(crate) use tokens_by_app::TokensByApp;
pub(crate) use written::Written;

/// Owns the finalizer and the status.
const STATUS_MANAGER: &str = "agentwrit-controller";

/// What a user decides about an object: what can't be written for it now can perhaps once that has changed. Not its
/// resourceVersion, for that changes with each status that we write ourselves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Version {
    uid: PolicyUid,
    generation: Option<i64>,
    deleted_at: Option<UnixSeconds>,
    release: Option<String>,
}

impl Version {
    pub(crate) fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self {
            uid: meta.uid.clone().unwrap_or_default().into(),
            generation: meta.generation,
            deleted_at: meta.deletion_timestamp.as_ref().map(second),
            release: object.annotations().get(ANNOTATION_RELEASE_FINALIZER).cloned(),
        }
    }
}

/// Starts the watches of custom resources, and the reconcilers once the caches are filled.
pub(crate) fn spawn(context: &Arc<Context>, feeds: ReconcileFeeds, tasks: &mut JoinSet<()>) {
    let ReconcileFeeds {
        apps,
        launch_tokens,
        app_requests,
        token_requests,
    } = feeds;
    tasks.spawn(watches::apps(Arc::clone(context), apps));
    tasks.spawn(watches::launch_tokens(Arc::clone(context), launch_tokens));
    tasks.spawn(watches::ca_config_maps(Arc::clone(context)));
    tasks.spawn(reconcile_all(Arc::clone(context), app_requests, token_requests));
}

/// Waits for the caches, so that nothing is decided on half a picture; then keeps the broker in step and works off the
/// queues, for ever.
async fn reconcile_all(context: Arc<Context>, apps: Requests<AgentApp>, launch_tokens: Requests<LaunchToken>) {
    // This task alone waits for the caches: of two that wait for one, kube's Store wakes only one.
    let all_known = async {
        context.namespaces.wait_until_ready().await?;
        context.caches.apps.wait_until_ready().await?;
        context.caches.launch_tokens.wait_until_ready().await
    };
    if all_known.await.is_err() {
        return;
    }
    context.readiness.caches();
    tracing::info!("namespaces, AgentApps and LaunchTokens are known");
    // Also while another replica leads, so that nothing piles up.
    tokio::join!(
        BrokerSync::new(Arc::clone(&context)).run(),
        queue::work(context.caches.apps.clone(), apps, Arc::clone(&context)),
        queue::work(
            context.caches.launch_tokens.clone(),
            launch_tokens,
            Arc::clone(&context)
        ),
    );
}

/// Brings one object, the broker and the object's status together.
pub(crate) async fn reconcile<K: PolicyResource>(
    object: Arc<DeserializeGuard<K>>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    // What the broker holds was perhaps written by another leader since this replica last asked; the answer brings all
    // objects back here.
    if !context.broker.is_known() {
        return Ok(Action::await_change());
    }
    match &object.0 {
        Ok(object) => Reconciliation::new(object, &context).run().await,
        Err(invalid) => {
            let namespace = invalid.metadata.namespace.clone().unwrap_or_default();
            let name = invalid.metadata.name.clone().unwrap_or_default();
            if context.backoff.rests(&Version::of(object.as_ref())).is_some() {
                return Err(ReconcileError::BackingOff { namespace, name });
            }
            Err(ReconcileError::Malformed {
                namespace,
                name,
                error: invalid.error.clone(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::backoff::Backoff;

    fn app(generation: i64, more: &serde_json::Value) -> AgentApp {
        let mut app = json!({
            "metadata": {"uid": "u", "name": "shop", "namespace": "shop", "generation": generation},
            "spec": {"scopes": ["read:orders:*"]},
        });
        json_patch::merge(&mut app, more);
        serde_json::from_value(app).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn our_own_status_writes_dont_end_a_rest() {
        let backoff = Backoff::default();
        let mut pauses = Vec::new();
        // A refusal whose sentence varies is in the status each time, and each time the object has a new resourceVersion.
        for version in 1..=4 {
            let said = json!({
                "metadata": {"resourceVersion": version.to_string()},
                "status": {"observedGeneration": version},
            });
            let told = Version::of(&app(1, &said));
            assert_eq!(backoff.rests(&told), None);
            pauses.push(backoff.failed(told).as_secs());
            let written = app(1, &json!({"metadata": {"resourceVersion": "new"}}));
            assert!(backoff.rests(&Version::of(&written)).is_some());
            tokio::time::advance(Duration::from_secs(*pauses.last().unwrap())).await;
        }
        assert_eq!(pauses, [1, 2, 4, 8]);
    }

    #[test]
    fn what_a_user_changes_is_tried_at_once() {
        let before = Version::of(&app(1, &json!({})));
        for (generation, change) in [
            (2, json!({})),
            (1, json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})),
            (
                1,
                json!({"metadata": {"annotations": {ANNOTATION_RELEASE_FINALIZER: "true"}}}),
            ),
            (1, json!({"metadata": {"uid": "another"}})),
        ] {
            assert_ne!(Version::of(&app(generation, &change)), before, "{change}");
        }
    }
}
