//! Everything that the broker holds, in one answer, so that the controller compares it with one request.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use agentwrit_protocol::k8s::{
    LivePod, MarkRequest, MarkResponse, PolicyField, PolicyKind, PolicyListResponse, PolicyState, PolicySummary,
    orch_id,
};
use agentwrit_protocol::{OrchId, PodUid, PolicyUid};
use agentwrit_store::policy::Policy;
use agentwrit_store::{Command, MetaKey, Result, Store, Tx};
use async_trait::async_trait;

use super::ceilings::{held_back, is_beyond};
use super::write::current_epoch;
use crate::config::ScopeCeilings;
use crate::service::k8s::pod_binding::live_pod;

/// Everything that the broker holds.
pub(crate) async fn list(store: &Store, ceilings: &Arc<ScopeCeilings>) -> Result<PolicyListResponse> {
    store.read(ListPolicies(Arc::clone(ceilings))).await
}

/// Compares the mark that the controller remembers with the store's; lists what it holds then, if asked to.
pub(crate) async fn compare_mark(
    store: &Store,
    request: &MarkRequest,
    ceilings: &Arc<ScopeCeilings>,
) -> Result<MarkResponse> {
    let remembered = Some(request.mark.as_str()).filter(|mark| !mark.is_empty());
    let compared = store.compare(remembered).await?;
    // After the comparison: the list is of the epoch that it leaves.
    let list = if request.list {
        Some(list(store, ceilings).await?)
    } else {
        None
    };
    Ok(MarkResponse {
        mark: compared.mark,
        restored: compared.restored,
        list,
    })
}

impl ListPolicies {
    /// One that has come to be beyond its ceiling counts as not held, so that the controller writes it, hears why it is
    /// refused, and says so.
    fn digest(&self, policy: &Policy) -> String {
        let is_ready = policy.state == PolicyState::Ready;
        if is_ready && is_beyond(&self.0.of(&policy.key.namespace), policy) {
            return held_back(&policy.digest);
        }
        policy.digest.clone()
    }
}

/// Reads all policies, counts and pods.
struct ListPolicies(Arc<ScopeCeilings>);

#[async_trait]
impl Command for ListPolicies {
    type Outcome = PolicyListResponse;

    async fn run(self, tx: &mut dyn Tx) -> Result<PolicyListResponse> {
        let sessions = tx.live_attested_sessions().await?;
        let mut by_policy: HashMap<PolicyUid, i64> = HashMap::new();
        let mut by_orch: HashMap<OrchId, i64> = HashMap::new();
        let mut pods: BTreeMap<PodUid, LivePod> = BTreeMap::new();
        let mut remember = |pod: LivePod| {
            pods.entry(pod.uid.clone()).or_insert(pod);
        };
        for session in sessions {
            let Some(bound) = &session.attested else { continue };
            remember(live_pod(bound));
            // One that a later registration has superseded is not counted beside its successor.
            if session.ended_at.is_none() {
                *by_policy.entry(bound.policy_uid.clone()).or_default() += 1;
                *by_orch.entry(session.orch_id).or_default() += 1;
            }
        }
        for launch in tx.unused_attested_launch_tokens().await? {
            let Some(bound) = &launch.attested else { continue };
            if !tx.pod_has_tombstone(&bound.pod_uid).await? {
                remember(live_pod(bound));
            }
        }
        // Those without a session too: what is remembered of a pod goes when the controller finds out that it is gone.
        for pod in tx.known_pods().await? {
            remember(pod);
        }
        let policies = tx
            .policies()
            .await?
            .into_iter()
            .map(|policy| (self.digest(&policy), policy))
            .map(|(digest, policy)| PolicySummary {
                client: policy.client().cloned(),
                active_agents: match policy.key.kind {
                    PolicyKind::App => by_orch.get(&orch_id(&policy.key.namespace, &policy.key.name)),
                    PolicyKind::LaunchToken => by_policy.get(&policy.uid),
                }
                .copied()
                .unwrap_or_default(),
                kind: policy.key.kind,
                namespace: policy.key.namespace,
                name: policy.key.name,
                uid: policy.uid,
                generation: policy.generation,
                digest,
                order: policy.order,
                app_id: policy.app_id,
                issued: policy.issued,
            })
            .collect();
        Ok(PolicyListResponse {
            epoch: tx.meta(MetaKey::Epoch).await?.unwrap_or_default(),
            lease_epoch: current_epoch(tx).await?,
            fields: PolicyField::ALL.iter().map(|field| field.as_str().to_owned()).collect(),
            policies,
            pods: pods.into_values().collect(),
        })
    }
}
