//! Quarantine: what a person's revocation means for the pod behind its target, whatever state its session is in.

use std::collections::BTreeSet;
use std::time::Duration;

use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::session::{PodBehind, has_uid_form, pod_of_agent};
use agentwrit_protocol::{PodUid, TaskId, UnixMillis};
use agentwrit_store::{EndReason, EventDraft, HeldByPod, Result, Revocation, RevocationLevel, Session, Tx};

use crate::service::actor::Actor;
use crate::service::session::lineage::root;

/// How long the quarantine of a pod that never launched is kept.
const UNSEEN: Duration = Duration::from_hours(30 * 24);

/// What a revocation came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Sessions and delegations that ended by it.
    pub(crate) sessions_ended: i64,
    /// Pods that are in quarantine because of it, also those that were before.
    pub(crate) pods_quarantined: i64,
}

/// The pods behind a revocation that have not ended: those of the sessions that it hits, and the one that its target
/// itself leads to when this is given.
pub(crate) async fn pods_behind(
    tx: &mut dyn Tx,
    hit: &[Session],
    target: Option<PodBehind<'_>>,
) -> Result<BTreeSet<PodUid>> {
    let of_session = |session: &Session| session.attested.as_ref().map(|bound| bound.pod_uid.clone());
    let mut pods: BTreeSet<PodUid> = hit.iter().filter_map(of_session).collect();
    if let Some(target) = target {
        pods.extend(named(tx, target).await?);
    }
    let mut standing = BTreeSet::new();
    for pod in pods {
        if !tx.pod_has_tombstone(&pod).await? {
            standing.insert(pod);
        }
    }
    Ok(standing)
}

async fn named(tx: &mut dyn Tx, target: PodBehind<'_>) -> Result<Vec<PodUid>> {
    match target {
        PodBehind::Agent(uid) => Ok(vec![uid]),
        PodBehind::Token(jti) => tx.pods_of_token(&jti).await,
        PodBehind::Task(task) => {
            let uid = PodUid::from(task);
            let is_pod = has_uid_form(task) || tx.pod_is_known(&uid).await?;
            Ok(is_pod.then_some(uid).into_iter().collect())
        }
        PodBehind::Nothing => Ok(Vec::new()),
    }
}

/// Until when a pod that never launched is kept quarantined.
pub(crate) fn unseen_until(tx: &dyn Tx) -> UnixMillis {
    tx.times().judged + UNSEEN
}

/// Quarantines a pod and ends all its sessions, and what was delegated to it; how many of them stood.
pub(crate) async fn quarantine(tx: &mut dyn Tx, pod_uid: &PodUid, actor: &Actor) -> Result<i64> {
    let until = unseen_until(tx);
    let target = Target {
        uid: pod_uid.clone(),
        is_new: tx.quarantine_pod(pod_uid, &actor.subject, until).await?,
    };
    Ok(end_quarantined(tx, &[target], actor).await?.ended)
}

/// A quarantined pod whose sessions are to end.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) uid: PodUid,
    /// It was not quarantined before.
    pub(crate) is_new: bool,
}

/// What the end of quarantined pods' sessions came to.
pub(crate) struct Ends {
    /// Sessions and delegations that ended by it.
    pub(crate) ended: i64,
    /// Those that were looked at.
    pub(crate) looked_at: usize,
}

/// Ends all sessions of quarantined pods that have not ended, and what was delegated to them.
pub(crate) async fn end_quarantined(tx: &mut dyn Tx, targets: &[Target], actor: &Actor) -> Result<Ends> {
    let uids: Vec<PodUid> = targets.iter().map(|target| target.uid.clone()).collect();
    let held = tx.held_by_pods(&uids).await?;
    let all: Vec<&Session> = held
        .iter()
        .flat_map(|held| held.sessions.iter().chain(&held.delegations))
        .collect();
    let revoked = tx.revoke_sessions(&all).await?;
    let mut ends = Ends {
        ended: 0,
        looked_at: all.len(),
    };
    let mut revoked = revoked.into_iter();
    for held in &held {
        let pod_uid = &held.pod;
        let attributed = |event: EventDraft| actor.attributed(event.pod_uid(pod_uid));
        if targets.iter().any(|target| target.is_new && target.uid == *pod_uid) {
            tx.audit(attributed(quarantined(held)));
        }
        for session in &held.sessions {
            if revoked.next() == Some(true) {
                ends.ended = ends.ended.saturating_add(1);
                let detail = format!(
                    "revoked with {}, which is quarantined",
                    pod_name(Some(session), pod_uid)
                );
                let event = EventDraft::success(EventType::TokenRevoked, detail);
                tx.audit(attributed(event.of_session(session)));
            } else if session.end_reason != Some(EndReason::Revoked) {
                // It ended for another reason before: from now on its tokens are refused as revoked.
                tx.add_revocation(&Revocation {
                    level: RevocationLevel::Agent,
                    target: session.agent_id.clone(),
                    until: Some(session.last_exp.end()),
                })
                .await?;
            }
        }
        for delegation in &held.delegations {
            if revoked.next() == Some(true) {
                ends.ended = ends.ended.saturating_add(1);
                let detail = format!("delegation revoked with its holder, pod {pod_uid}, which is quarantined");
                let event = EventDraft::success(EventType::TokenRevoked, detail).of_session(delegation);
                let event = event.within_session(&root(tx, delegation).await?);
                tx.audit(actor.attributed(event));
            }
        }
    }
    Ok(ends)
}

/// The event of a quarantine.
fn quarantined(held: &HeldByPod) -> EventDraft {
    let last = held.sessions.iter().max_by_key(|session| session.created_at);
    let last = last.or(held.last.as_ref());
    let detail = format!(
        "{} is quarantined until it is replaced or released",
        pod_name(last, &held.pod)
    );
    let event = EventDraft::success(EventType::PodQuarantined, detail);
    match last {
        Some(session) => event.of_session(session),
        None => event.task(&TaskId::from(&held.pod)),
    }
}

fn pod_name(session: Option<&Session>, pod_uid: &PodUid) -> String {
    match session.and_then(|session| session.attested.as_ref()) {
        Some(bound) => format!("pod {}/{}", bound.namespace, bound.pod_name),
        None => format!("pod {pod_uid}"),
    }
}

/// Lifts the quarantine of a pod and the revocations that name it, so that it can register again; false when there were
/// none. What was revoked stays
/// revoked: its sessions have ended.
pub(crate) async fn lift(tx: &mut dyn Tx, pod_uid: &PodUid) -> Result<bool> {
    let mut lifted = tx.release_pod(pod_uid).await?;
    lifted |= tx.lift_revocation(RevocationLevel::Task, pod_uid).await?;
    for agent in tx.revoked_targets(RevocationLevel::Agent).await? {
        if pod_of_agent(&agent).as_ref() == Some(pod_uid) {
            lifted |= tx.lift_revocation(RevocationLevel::Agent, &agent).await?;
        }
    }
    Ok(lifted)
}
