//! The client for the broker's policies: ordered writes, and what the broker was last seen to hold.

mod batch;
mod error;
mod policy;
mod view;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use agentwrit_client::{BrokerClient, Class};
use agentwrit_protocol::k8s::{
    BulkItem, Denial, HasPolicyFields, LivePod, MarkRequest, PodEndedRequest, PolicyField, PolicyListResponse,
    PolicyState, PolicySummary, PutPolicy, WriteOrder,
};
use agentwrit_protocol::signing_keys::wire::SigningKeysResponse;
use agentwrit_protocol::{ErrorCode, PolicyUid};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::leader::leadership::Leadership;
use crate::metrics::Metrics;
use batch::{Batches, Waiting};
pub(crate) use error::BrokerError;
use error::unavailable;
pub(crate) use policy::{PolicyKey, PolicySpec};
use view::{Unreachable, View};

/// Writes policies to the broker, and remembers what it holds.
#[derive(Debug)]
pub(crate) struct PolicyClient {
    client: BrokerClient,
    leadership: Leadership,
    sequence: AtomicI64,
    view: Mutex<View>,
    /// The lease epoch under which the broker was last asked what it holds, or tried to be.
    asked_under: AtomicI64,
    batches: Batches,
    write_failed: Notify,
    metrics: Arc<Metrics>,
}

impl PolicyClient {
    /// The broker behind `client`.
    pub(crate) fn new(client: BrokerClient, leadership: Leadership, metrics: Arc<Metrics>) -> Self {
        Self {
            client,
            leadership,
            sequence: AtomicI64::new(0),
            view: Mutex::default(),
            asked_under: AtomicI64::new(0),
            batches: Batches::default(),
            write_failed: Notify::new(),
            metrics,
        }
    }

    /// Believes a broker with a certificate of these CAs, PEM; the ones before stay when these can't be used.
    pub(crate) fn trust(&self, bundle: &str) {
        if let Err(error) = self.client.set_ca(bundle.as_bytes()) {
            tracing::error!(
                error = agentwrit_protocol::error_chain(&error),
                "keeping the last good CA of the broker"
            );
        }
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock()
    }

    fn order(&self) -> Result<WriteOrder, BrokerError> {
        let claim = self.leadership.claim().ok_or(BrokerError::NotLeader)?;
        Ok(WriteOrder {
            lease_epoch: claim.epoch,
            sequence: self.sequence.fetch_add(1, Ordering::SeqCst).saturating_add(1),
        })
    }

    /// Whether this replica leads, and has asked the broker since what it holds.
    pub(crate) fn is_known(&self) -> bool {
        let lead = self.leadership.claim().map(|claim| claim.epoch);
        lead == Some(self.asked_under.load(Ordering::SeqCst))
    }

    /// Resolves when a write doesn't get through: worth another refresh soon.
    pub(crate) async fn write_failed(&self) {
        self.write_failed.notified().await;
    }

    /// Whether it has said what it holds, and answered the last time it was asked.
    pub(crate) fn answers(&self) -> bool {
        let view = self.view();
        view.answered && view.unreachable.is_none()
    }

    /// What the broker was last seen to hold of this policy.
    pub(crate) fn held(&self, key: &PolicyKey) -> Option<PolicySummary> {
        self.view().policies.get(key).cloned()
    }

    /// What the broker was last seen to hold without `has_object`.
    pub(crate) fn orphans(&self, has_object: impl Fn(&PolicyKey) -> bool) -> Vec<PolicySummary> {
        let view = self.view();
        let orphans = view.policies.iter().filter(|(key, _)| !has_object(key));
        orphans.map(|(_, held)| held.clone()).collect()
    }

    /// Those fields of a spec that the broker doesn't know, being of an earlier version: it would not enforce them.
    pub(crate) fn unknown_fields(&self, spec: &impl HasPolicyFields) -> Vec<&'static str> {
        self.view().unknown_fields(spec.fields())
    }

    /// Whether the broker enforces this field, as far as it has said.
    pub(crate) fn knows(&self, field: PolicyField) -> bool {
        self.view().unknown_fields(vec![field]).is_empty()
    }

    /// Since when the broker has been unreachable, if it didn't answer the last refresh.
    fn unreachable_since(&self) -> Option<Unreachable> {
        self.view().unreachable
    }

    /// Whether it hasn't answered the last refresh, but not for so long that it should show.
    pub(crate) fn is_away_briefly(&self) -> bool {
        self.unreachable_since().is_some_and(|away| !away.shows())
    }

    /// Asks what the broker holds; also whether its store is another one than before. Answers the rest of the list: the
    /// policies are kept here. Fails when it doesn't answer; it then counts as unreachable.
    pub(crate) async fn refresh(&self) -> Result<PolicyListResponse, BrokerError> {
        let lead = self.leadership.claim().map_or(0, |claim| claim.epoch);
        self.view().ask();
        let result = match self.look().await {
            Ok(mut list) => {
                let mut view = self.view();
                if view.unreachable.take().is_some() || !view.answered {
                    tracing::info!(epoch = list.epoch, policies = list.policies.len(), "the broker answers");
                }
                if view.answered && !view.epoch.is_empty() && view.epoch != list.epoch {
                    tracing::warn!(
                        before = view.epoch,
                        now = list.epoch,
                        "the broker has another store than before; all policies are written again"
                    );
                }
                view.epoch.clone_from(&list.epoch);
                view.answered = true;
                view.fields.clone_from(&list.fields);
                view.update(std::mem::take(&mut list.policies));
                self.metrics.broker_up.set(1);
                Ok(list)
            }
            Err(error) => {
                let kind = error.kind();
                let mut view = self.view();
                if view.unreachable.is_none() {
                    let since = Instant::now();
                    view.unreachable = Some(Unreachable { since, kind });
                    tracing::warn!(
                        kind,
                        error = agentwrit_protocol::error_chain(&error),
                        "the broker doesn't answer"
                    );
                }
                self.metrics.broker_up.set(0);
                Err(unavailable(error))
            }
        };
        self.asked_under.store(lead, Ordering::SeqCst);
        result
    }

    /// Sends the broker the store mark that the Lease remembers, remembers the present one, and answers what the store
    /// holds after that comparison: one request, or two with a broker of the version before.
    async fn look(&self) -> Result<PolicyListResponse, agentwrit_client::Error> {
        if let Some(claim) = self.leadership.claim() {
            let request = MarkRequest {
                mark: self.leadership.mark(claim).unwrap_or_default(),
                list: true,
            };
            match self.client.mark(&request).await {
                Ok(answer) => {
                    let answer = answer.value;
                    if answer.restored {
                        tracing::warn!(
                            epoch = answer.mark.epoch,
                            "the broker's store was restored from a copy: revoke again what was revoked since"
                        );
                    }
                    self.leadership.remember(claim, answer.mark);
                    if let Some(list) = answer.list {
                        return Ok(list);
                    }
                }
                // A broker before marks.
                Err(error) if error.class() == Class::Denied(ErrorCode::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.client.list_policies().await?.value)
    }

    /// Makes the broker hold `put`; sends nothing when it does already. Answers the app's id, of an `AgentApp`.
    pub(crate) async fn ensure<S: PolicySpec>(
        &self,
        key: &PolicyKey,
        put: &PutPolicy<S>,
    ) -> Result<Option<String>, BrokerError> {
        let digest = put.digest();
        if let Some(held) = self.held(key)
            && held.uid == put.uid
            && held.digest == digest
        {
            return match self.unreachable_since() {
                Some(away) if away.shows() => Err(BrokerError::Unavailable {
                    kind: away.kind,
                    source: None,
                }),
                _ => Ok(held.app_id),
            };
        }
        if let Some(Unreachable { kind, .. }) = self.unreachable_since() {
            // One prober is enough: the next refresh that succeeds brings us back here.
            return Err(BrokerError::Unavailable { kind, source: None });
        }
        let item = S::item(key, put.clone());
        let (answer, order) = match self.put(item).await {
            Ok(answered) => answered,
            Err(error) => {
                // What it held may be withdrawn with that: going back is a write too.
                if let BrokerError::Refused { .. } = error
                    && let Some(held) = self.view().policies.get_mut(key)
                {
                    held.digest.clear();
                }
                return Err(error);
            }
        };
        let mut view = self.view();
        let before = view.policies.remove(key).filter(|before| before.uid == put.uid);
        view.accepted(
            key,
            PolicySummary {
                kind: S::KIND,
                namespace: key.namespace.clone(),
                name: key.name.clone(),
                uid: put.uid.clone(),
                generation: put.generation,
                digest: answer.digest,
                order,
                app_id: answer.app_id.clone(),
                client: match put.state {
                    // Withdrawn: what it accepted before stays in force there.
                    PolicyState::NotReady => before.as_ref().and_then(|before| before.client.clone()),
                    PolicyState::Ready | PolicyState::Suspended => put.spec.client().cloned(),
                },
                active_agents: before.as_ref().map_or(0, |before| before.active_agents),
                issued: before.as_ref().map_or(0, |before| before.issued),
            },
        );
        tracing::info!(
            kind = ?S::KIND, namespace = key.namespace, name = key.name, state = ?put.state,
            revoked = answer.revoked, "the broker accepted the policy"
        );
        Ok(answer.app_id)
    }

    /// Has a write sent, by this caller or by another one that has the turn.
    async fn put(&self, item: BulkItem) -> batch::Answer {
        let mut answered = self.batches.add(item);
        loop {
            tokio::select! {
                biased;
                answer = &mut answered => return answer.unwrap_or(Err(BrokerError::NotLeader)),
                _turn = self.batches.turn() => {
                    let next = self.batches.next();
                    if !next.is_empty() {
                        self.send(next).await;
                    }
                }
            }
        }
    }

    /// Sends writes under the claim of this moment.
    async fn send(&self, mut batch: Vec<Waiting>) {
        for waiting in &mut batch {
            let Ok(order) = self.order() else {
                for waiting in batch {
                    waiting.done(Err(BrokerError::NotLeader));
                }
                return;
            };
            waiting.set_order(order);
        }
        batch::send(&self.client, batch, |error| self.error_of(error)).await;
    }

    /// Removes a policy from the broker; with `revoke`, its sessions end.
    pub(crate) async fn remove(&self, key: &PolicyKey, uid: &PolicyUid, revoke: bool) -> Result<(), BrokerError> {
        let order = self.order()?;
        if self.view().removed.contains(uid) {
            return Ok(());
        }
        if let Some(Unreachable { kind, .. }) = self.unreachable_since() {
            // As in `ensure`.
            return Err(BrokerError::Unavailable { kind, source: None });
        }
        let answer = self
            .client
            .delete_policy(key.kind, &key.namespace, &key.name, uid, order, revoke)
            .await;
        match answer {
            Ok(answer) => {
                tracing::info!(
                    kind = ?key.kind, namespace = key.namespace, name = key.name,
                    revoked = answer.value.revoked, "the broker removed the policy"
                );
            }
            Err(error) => match self.error_of(error) {
                BrokerError::Refused {
                    code: ErrorCode::NotFound,
                    ..
                } => {}
                error => return Err(error),
            },
        }
        self.view().remove(key, uid);
        Ok(())
    }

    /// Reports that a pod has ended.
    pub(crate) async fn pod_ended(&self, pod: &LivePod, reason: &'static str) -> Result<i64, BrokerError> {
        self.leadership.claim().ok_or(BrokerError::NotLeader)?;
        let request = PodEndedRequest {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            reason: reason.to_owned(),
        };
        let answer = self
            .client
            .pod_ended(&pod.uid, &request)
            .await
            .map_err(|error| self.error_of(error))?;
        Ok(answer.value.revoked)
    }

    /// Refusals after `cursor`, and the next cursor. Fails when the broker doesn't answer.
    pub(crate) async fn denials(&self, cursor: i64) -> Result<(Vec<Denial>, i64), BrokerError> {
        let answer = self
            .client
            .denials(cursor)
            .await
            .map_err(|error| self.error_of(error))?;
        Ok((answer.value.denials, answer.value.next))
    }

    /// The signing keys; none of a broker of the version before. Fails when the broker doesn't answer.
    pub(crate) async fn signing_keys(&self) -> Result<SigningKeysResponse, BrokerError> {
        match self.client.signing_keys_for_controller().await {
            Err(error) if error.class() == Class::Denied(ErrorCode::NotFound) => Ok(SigningKeysResponse::default()),
            answer => answer.map_err(|error| self.error_of(error)),
        }
    }

    /// What the failure of a call means; asks for another refresh when the call didn't get through.
    fn error_of(&self, error: agentwrit_client::Error) -> BrokerError {
        let Class::Denied(code) = error.class() else {
            self.write_failed.notify_one();
            return unavailable(error);
        };
        let Some(refusal) = error.refusal() else {
            return BrokerError::Refused {
                code,
                detail: error.to_string(),
            };
        };
        match code {
            ErrorCode::StaleWriter => {
                let ours = self.leadership.claim().map_or(0, |claim| claim.epoch);
                if let Some(current) = refusal.problem.current_epoch.filter(|current| *current > ours) {
                    self.leadership.raise_above(current);
                }
                BrokerError::Stale
            }
            // The broker doesn't know us: its settings or our token are wrong, not the object.
            ErrorCode::Unauthorized | ErrorCode::Forbidden | ErrorCode::MethodNotAllowed => unavailable(error),
            _ => BrokerError::Refused {
                code,
                detail: refusal.problem.detail.clone(),
            },
        }
    }
}

#[cfg(test)]
mod tests;
