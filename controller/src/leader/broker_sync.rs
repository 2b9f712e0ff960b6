//! Keeps the broker in step with the cluster: missing policies are written again, orphans are removed.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_crds::{AgentApp, LaunchToken};
use agentwrit_protocol::k8s::{PolicyKind, PolicySummary};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;

use super::leadership::Leadership;
use crate::pod_end::BrokersPods;
use crate::policy_client::{BrokerError, PolicyClient, PolicyKey};
use crate::reconcile::ReconcileError;
use crate::reconcile::policy_resource::{Caches, PolicyResource};
use crate::reconcile::queue::Queue;
use crate::report::{Categorised, Reporter};

/// How often the broker's list is refreshed.
const REFRESH_EVERY: Duration = Duration::from_secs(10);
/// The same, while it doesn't answer, or writes don't get through.
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// Refreshes what is known of the broker, and acts on it.
pub struct BrokerSync {
    /// The API server.
    pub client: Client,
    /// The broker.
    pub broker: Arc<PolicyClient>,
    /// Whether we may write.
    pub leadership: Leadership,
    /// Both kinds, as last seen.
    pub caches: Caches,
    /// Where reconciliations are asked for.
    pub apps: Queue<AgentApp>,
    /// Where reconciliations are asked for.
    pub launch_tokens: Queue<LaunchToken>,
    /// Where the broker's pods go, to be compared with the cluster's meanwhile.
    pub brokers_pods: watch::Sender<Option<Arc<BrokersPods>>>,
    /// Log, metrics and Events.
    pub reporter: Reporter,
}

impl std::fmt::Debug for BrokerSync {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokerSync").finish_non_exhaustive()
    }
}

impl BrokerSync {
    /// Runs for ever; works while this replica leads. What the broker should hold and doesn't is written again, what it
    /// holds and shouldn't is removed, and its pods are handed on to be compared.
    pub async fn run(self) {
        loop {
            self.leadership.gained().await;
            let lead = self.leadership.claim().map_or(0, |claim| claim.epoch);
            let asked = Instant::now();
            let pause = match self.broker.refresh().await {
                Ok(list) => {
                    self.brokers_pods.send_replace(Some(Arc::new(BrokersPods {
                        pods: list.pods,
                        store: list.epoch,
                        lead,
                        asked,
                    })));
                    self.remove_orphans().await;
                    REFRESH_EVERY
                }
                Err(error) => {
                    tracing::debug!(%error, "a look at the broker failed");
                    PROBE_EVERY
                }
            };
            // Those that are as they should be are compared in memory only.
            self.apps.add_all(&self.caches.apps);
            self.launch_tokens.add_all(&self.caches.launch_tokens);
            let write_failed = async {
                self.broker.write_failed().await;
                tokio::time::sleep(PROBE_EVERY).await;
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = write_failed => {}
            }
        }
    }

    async fn remove_orphans(&self) {
        const REASON: &str = "OrphanNotRemoved";
        let mut all_well = true;
        for held in self.broker.all_held() {
            let removed = match held.kind {
                PolicyKind::App => self.remove_orphan(&held, &self.caches.apps).await,
                PolicyKind::LaunchToken => self.remove_orphan(&held, &self.caches.launch_tokens).await,
            };
            if let Err(error) = removed {
                all_well = false;
                let doing = "removing a policy without an object";
                self.reporter.own_recurring(doing, REASON, error.as_ref()).await;
            }
        }
        if all_well {
            self.reporter.own_recovered(REASON);
        }
    }

    async fn remove_orphan<K: PolicyResource>(
        &self,
        held: &PolicySummary,
        cache: &Store<DeserializeGuard<K>>,
    ) -> Result<(), Box<dyn Categorised>> {
        let reference = ObjectRef::<DeserializeGuard<K>>::new(&held.name).within(&held.namespace);
        if cache.get(&reference).is_some() {
            // If it is another object of that name, its own policy takes the place of this one.
            return Ok(());
        }
        let api: Api<K> = Api::namespaced(self.client.clone(), &held.namespace);
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
        match self.broker.remove(&key, &held.uid, true).await {
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
