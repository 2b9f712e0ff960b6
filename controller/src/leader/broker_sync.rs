//! Keeps the broker in step with the cluster: missing policies are written again, orphans are removed.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_crds::{AgentApp, LaunchToken};
use agentwrit_protocol::k8s::{PolicyKind, PolicySummary};
use kube::Api;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::time::Instant;

use crate::context::Context;
use crate::pod_end::BrokersPods;
use crate::policy_client::{BrokerError, PolicyKey};
use crate::reconcile::ReconcileError;
use crate::reconcile::policy_resource::PolicyResource;
use crate::report::Categorised;

/// How often the broker's list is refreshed.
const REFRESH_EVERY: Duration = Duration::from_secs(10);
/// The same, while it doesn't answer, or writes don't get through.
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// Refreshes what is known of the broker, and acts on it.
pub(crate) struct BrokerSync(Arc<Context>);

impl BrokerSync {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self(context)
    }

    /// Runs for ever; works while this replica leads. What the broker should hold and doesn't is written again, what it
    /// holds and shouldn't is removed, and its pods are handed on to be compared.
    pub(crate) async fn run(self) {
        loop {
            self.0.leadership.gained().await;
            let lead = self.0.leadership.claim().map_or(0, |claim| claim.epoch);
            let asked = Instant::now();
            let pause = match self.0.broker.refresh().await {
                Ok(list) => {
                    self.0.brokers_pods.send_replace(Some(Arc::new(BrokersPods {
                        pods: list.pods,
                        store: list.epoch,
                        lead,
                        asked,
                    })));
                    self.remove_orphans().await;
                    REFRESH_EVERY
                }
                Err(error) => {
                    tracing::debug!(%error, "reading the broker's list of policies failed");
                    PROBE_EVERY
                }
            };
            // Those that are as they should be are compared in memory only.
            self.0.apps.add_all(&self.0.caches.apps);
            self.0.launch_tokens.add_all(&self.0.caches.launch_tokens);
            let write_failed = async {
                self.0.broker.write_failed().await;
                tokio::time::sleep(PROBE_EVERY).await;
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = write_failed => {}
                () = self.0.leadership.led_anew(lead) => {}
            }
        }
    }

    async fn remove_orphans(&self) {
        const REASON: &str = "OrphanNotRemoved";
        let mut all_well = true;
        // If it is another object of that name, its own policy takes the place of this one.
        let orphans = self.0.broker.orphans(|key| match key.kind {
            PolicyKind::App => is_cached(&self.0.caches.apps, key),
            PolicyKind::LaunchToken => is_cached(&self.0.caches.launch_tokens, key),
        });
        for held in orphans {
            let removed = match held.kind {
                PolicyKind::App => self.remove_orphan::<AgentApp>(&held).await,
                PolicyKind::LaunchToken => self.remove_orphan::<LaunchToken>(&held).await,
            };
            if let Err(error) = removed {
                all_well = false;
                let doing = "removing a policy without an object";
                self.0.reporter.own_recurring(doing, REASON, error.as_ref()).await;
            }
        }
        if all_well {
            self.0.reporter.own_recovered(REASON);
        }
    }

    async fn remove_orphan<K: PolicyResource>(&self, held: &PolicySummary) -> Result<(), Box<dyn Categorised>> {
        let api: Api<K> = Api::namespaced(self.0.client.clone(), &held.namespace);
        // The cache may be behind: only a quorum read counts.
        let found = match api.get_metadata_opt(&held.name).await {
            Ok(found) => found,
            Err(source) => {
                return Err(Box::new(ReconcileError::Api {
                    doing: "looking for the object of the policy",
                    event: "OrphanNotRemoved",
                    namespace: held.namespace.clone(),
                    name: held.name.clone(),
                    source: Box::new(source),
                }));
            }
        };
        if found.is_some() {
            return Ok(());
        }
        let key = PolicyKey {
            kind: held.kind,
            namespace: held.namespace.clone(),
            name: held.name.clone(),
        };
        match self.0.broker.remove(&key, &held.uid, true).await {
            Ok(()) => {
                tracing::warn!(
                    kind = ?held.kind, namespace = held.namespace, name = held.name,
                    "removed a policy from the broker whose object no longer exists"
                );
                Ok(())
            }
            Err(BrokerError::NotLeader | BrokerError::Stale) => Ok(()),
            Err(error) => Err(Box::new(error)),
        }
    }
}

fn is_cached<K: PolicyResource>(cache: &Store<DeserializeGuard<K>>, key: &PolicyKey) -> bool {
    let reference = ObjectRef::<DeserializeGuard<K>>::new(&key.name).within(&key.namespace);
    cache.get(&reference).is_some()
}
