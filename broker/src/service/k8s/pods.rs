//! The end of a pod, and the end of its quarantine.

use std::time::Duration;

use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::k8s::{LivePod, PodEndedRequest, PodReleaseResponse, RevokedResponse};
use agentwrit_protocol::{PodUid, TaskId};
use agentwrit_store::{Command, EndReason, EventDraft, Result, Store, TakesAuthority, Tx};
use async_trait::async_trait;

use super::error::K8sError;
use super::policy::input::{InputError, check_uid};
use super::quarantine;
use crate::service::actor::Actor;
use crate::service::session::lineage::root;

/// How long an ended pod is remembered: an hour more than the longest token lives.
const POD_TOMBSTONE: Duration = Duration::from_hours(25);

/// Ends what a pod held, when its controller says that it is gone.
pub(crate) async fn end(
    store: &Store,
    uid: PodUid,
    request: impl FnOnce() -> std::result::Result<PodEndedRequest, InputError>,
    actor: Actor,
) -> std::result::Result<RevokedResponse, K8sError> {
    check_uid(&uid)?;
    let request = request()?;
    for (field, value, most) in [
        ("namespace", &request.namespace, 63),
        ("name", &request.name, 253),
        ("reason", &request.reason, 256),
    ] {
        if value.is_empty() || value.len() > most || value.chars().any(char::is_control) {
            let detail = format!("{field} must be 1 to {most} bytes without control characters");
            return Err(InputError::new(detail).into());
        }
    }
    let ended = EndPod {
        pod: LivePod {
            uid,
            namespace: request.namespace,
            name: request.name,
        },
        reason: request.reason,
        actor,
    };
    Ok(store.commit(ended).await?)
}

/// Lifts the quarantine of a pod; `actor` is the person that does it.
pub(crate) async fn release(
    store: &Store,
    pod_uid: PodUid,
    actor: Actor,
) -> std::result::Result<PodReleaseResponse, K8sError> {
    check_uid(&pod_uid)?;
    Ok(store.commit(ReleasePod { pod_uid, actor }).await?)
}

/// A pod is gone: its sessions end, what was delegated to it ends, its unused launch tokens are worth nothing, and none follows.
#[derive(Debug, Clone)]
pub(crate) struct EndPod {
    pub(crate) pod: LivePod,
    /// `deleted`, `replaced`, `succeeded` or `failed`.
    pub(crate) reason: String,
    pub(crate) actor: Actor,
}

#[async_trait]
impl Command for EndPod {
    type Outcome = RevokedResponse;
    const TAKES_AUTHORITY: TakesAuthority<Self> = TakesAuthority::Again(Self::clone);

    async fn run(self, tx: &mut dyn Tx) -> Result<RevokedResponse> {
        // A tenant's pods come and go: those that the broker holds nothing of must not use up the room for the others.
        if tx.only_takes_authority() && !holds_any_of(tx, &self.pod.uid).await? {
            return Ok(RevokedResponse { revoked: 0 });
        }
        let now = tx.now_millis();
        let first_time = tx
            .tombstone_pod(&self.pod.uid, tx.times().judged + POD_TOMBSTONE)
            .await?;
        // Its unused launch tokens stay until they expire: the tombstone refuses them, and says why.
        let event = || {
            let detail = format!("pod {}/{} ended: {}", self.pod.namespace, self.pod.name, self.reason);
            EventDraft::success(EventType::PodEnded, detail)
        };
        let attributed = |draft: EventDraft| self.actor.attributed(draft.pod_uid(&self.pod.uid));
        let mut revoked: i64 = 0;
        for session in tx.live_sessions_by_pod(&self.pod.uid).await? {
            if tx.end_session(&session, EndReason::PodEnded, now).await? {
                revoked = revoked.saturating_add(1);
                tx.audit(attributed(event().of_session(&session)));
            }
        }
        for held in tx.standing_delegations_to_pod(&self.pod.uid).await? {
            if tx.end_session(&held, EndReason::PodEnded, now).await? {
                revoked = revoked.saturating_add(1);
                let root = root(tx, &held).await?;
                let draft = event().of_session(&held).within_session(&root);
                tx.audit(self.actor.attributed(draft));
            }
        }
        if revoked == 0 && first_time {
            let draft = match tx.last_session_of_pod(&self.pod.uid).await? {
                Some(session) => event().of_session(&session),
                None => event().task(&TaskId::from(&self.pod.uid)),
            };
            tx.audit(attributed(draft));
        }
        Ok(RevokedResponse { revoked })
    }
}

/// Whether the broker holds anything of a pod: itself, as from its first launch on, a session, a delegation to it, or
/// its quarantine.
async fn holds_any_of(tx: &mut dyn Tx, pod_uid: &PodUid) -> Result<bool> {
    Ok(tx.pod_is_known(pod_uid).await?
        || tx.pod_is_quarantined(pod_uid).await?
        || tx.last_session_of_pod(pod_uid).await?.is_some()
        || !tx.standing_delegations_to_pod(pod_uid).await?.is_empty())
}

/// A person lifts the quarantine of a pod.
struct ReleasePod {
    /// `metadata.uid`.
    pod_uid: PodUid,
    actor: Actor,
}

#[async_trait]
impl Command for ReleasePod {
    type Outcome = PodReleaseResponse;

    async fn run(self, tx: &mut dyn Tx) -> Result<PodReleaseResponse> {
        let released = !tx.pod_has_tombstone(&self.pod_uid).await? && quarantine::lift(tx, &self.pod_uid).await?;
        if released {
            let event = EventDraft::success(EventType::PodReleased, "the pod's quarantine is lifted");
            let draft = match tx.last_session_of_pod(&self.pod_uid).await? {
                Some(session) => event.of_session(&session),
                None => event.task(&TaskId::from(&self.pod_uid)),
            };
            tx.audit(self.actor.attributed(draft.pod_uid(&self.pod_uid)));
        }
        Ok(PodReleaseResponse { released })
    }
}
