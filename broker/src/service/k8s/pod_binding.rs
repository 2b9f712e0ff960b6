//! What registration, renewal and revocation must ask about attested pods.

use std::net::IpAddr;
use std::time::Duration;

use agentwrit_limits::Asker;
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::excerpt::describe_request;
use agentwrit_protocol::k8s::DenialKind;
use agentwrit_protocol::k8s::{LivePod, ORCH_PREFIX};
use agentwrit_protocol::{ErrorCode, OrchId, PodUid, SessionId, TaskId};
use agentwrit_store::policy::PolicyKey;
use agentwrit_store::{Attested, EndReason, EventDraft, KnownPod, LaunchToken, PodStanding, Result, Session, Tx};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::denials::{self, PodDenial};
use super::error::PodRefusal;
use super::places::{self, Full};
use super::policy::rules::Pair;
use crate::config::ScopeCeilings;

/// How long a superseded session is still valid.
pub(crate) const SUPERSESSION_OVERLAP: Duration = Duration::from_secs(10);
/// The third supersession within this time is reported in the feed of denials.
const SUPERSESSION_WINDOW: Duration = Duration::from_mins(10);
const SUPERSESSIONS_REPORTED: i64 = 3;

/// What a registration claims, as far as a pod's launch token binds it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RegisterClaim<'a> {
    pub(crate) orch_id: &'a OrchId,
    pub(crate) task_id: &'a TaskId,
    /// As sent: standard base64.
    pub(crate) public_key: &'a str,
    pub(crate) requested_scope: &'a [String],
    /// Network address of the caller.
    pub(crate) source: IpAddr,
}

/// Whether a registration keeps to what its launch token was made for, and pod and policy still allow it; then what the
/// `aud` of its tokens has beside the broker's own.
///
/// A refusal is audited here (`registration_denied`); it burns nothing.
pub(crate) async fn check_register(
    tx: &mut dyn Tx,
    ceilings: &ScopeCeilings,
    launch: &LaunchToken,
    claim: &RegisterClaim<'_>,
) -> Result<std::result::Result<Vec<String>, PodRefusal>> {
    let kind = match decide_register(tx, ceilings, launch, claim).await? {
        Ok(audiences) => return Ok(Ok(audiences)),
        Err(kind) => kind,
    };
    let pod = launch.attested.as_ref().map(live_pod);
    let bound = launch.attested.as_ref();
    let refused = PodDenial {
        pod: pod.as_ref(),
        policy: bound.map_or("", |bound| &bound.policy_name),
        policy_uid: bound.map(|bound| &bound.policy_uid),
        correlation_id: &launch.correlation_id,
        orch_id: Some(claim.orch_id),
        task_id: Some(claim.task_id),
        source: &claim.source.to_string(),
        request: &describe_request(Some(claim.requested_scope), &launch.names()),
        ..PodDenial::of(kind)
    };
    denials::record(tx, Asker::Source(claim.source), EventType::RegistrationDenied, &refused).await?;
    Ok(Err(kind.into()))
}

async fn decide_register(
    tx: &mut dyn Tx,
    ceilings: &ScopeCeilings,
    launch: &LaunchToken,
    claim: &RegisterClaim<'_>,
) -> Result<std::result::Result<Vec<String>, DenialKind>> {
    let Some(bound) = &launch.attested else {
        if claim.orch_id.starts_with(ORCH_PREFIX) {
            return Ok(Err(DenialKind::ReservedOrchId));
        }
        return Ok(Ok(Vec::new()));
    };
    if *claim.orch_id != bound.orch_id {
        return Ok(Err(DenialKind::OrchIdMismatch));
    }
    if *claim.task_id != bound.task_id {
        return Ok(Err(DenialKind::TaskIdMismatch));
    }
    if !same_key(claim.public_key, &bound.public_key) {
        return Ok(Err(DenialKind::KeyMismatch));
    }
    if let Some(kind) = pod_denial(tx, &bound.pod_uid).await? {
        return Ok(Err(kind));
    }
    let Some(pair) = pair(tx, ceilings, &bound.namespace, &bound.policy_name).await? else {
        return Ok(Err(DenialKind::PolicyRemoved));
    };
    if pair.token.uid != bound.policy_uid {
        return Ok(Err(DenialKind::PolicyRemoved));
    }
    let effective = match pair.launchable() {
        Ok(effective) => effective,
        Err(kind) => return Ok(Err(kind)),
    };
    // What the launch token allows may be wider than what is asked for; only that it once was allowed matters here.
    let allowed = launch.allowed_scope.to_strings();
    if let Err(kind) = pair.still_stands(bound, &allowed) {
        return Ok(Err(kind));
    }
    let place = places::check(tx, &pair.token, &bound.pod_uid).await?;
    Ok(place.map(|()| effective.audiences).map_err(|_| Full::KIND))
}

/// Compares the decoded bytes: base64 has more than one text for them.
fn same_key(claimed: &str, bound: &str) -> bool {
    let claimed: String = claimed.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    match (STANDARD.decode(claimed), STANDARD.decode(bound)) {
        (Ok(claimed), Ok(bound)) => claimed == bound,
        _ => false,
    }
}

/// Whether the pod has ended or is quarantined.
pub(crate) async fn pod_denial(tx: &mut dyn Tx, pod_uid: &PodUid) -> Result<Option<DenialKind>> {
    Ok(match tx.pod_standing(pod_uid).await? {
        PodStanding::Stands => None,
        PodStanding::Ended => Some(DenialKind::PodEnded),
        // Its tokens would be dead from birth.
        PodStanding::Quarantined => Some(DenialKind::PodQuarantined),
    })
}

/// A LaunchToken, its AgentApp, and the ceiling of their namespace.
pub(crate) async fn pair(
    tx: &mut dyn Tx,
    ceilings: &ScopeCeilings,
    namespace: &str,
    policy: &str,
) -> Result<Option<Pair>> {
    let Some(token) = tx.policy(&PolicyKey::launch_token(namespace, policy)).await? else {
        return Ok(None);
    };
    let spec = token
        .accepted
        .as_ref()
        .and_then(|accepted| accepted.spec.launch_token());
    let app = match spec {
        Some(spec) => tx.policy(&PolicyKey::app(namespace, &spec.app)).await?,
        None => None,
    };
    let ceiling = ceilings.of(namespace);
    Ok(Some(Pair { token, app, ceiling }))
}

pub(crate) fn live_pod(bound: &Attested) -> LivePod {
    LivePod {
        uid: bound.pod_uid.clone(),
        namespace: bound.namespace.clone(),
        name: bound.pod_name.clone(),
    }
}

/// In the commit of a registration: the pod's former sessions, and what was delegated to them, end after 10 s, and the
/// registration is counted.
pub(crate) async fn on_registered(tx: &mut dyn Tx, launch: &LaunchToken, new_sid: &SessionId) -> Result<()> {
    let Some(bound) = &launch.attested else {
        return Ok(());
    };
    tx.know_pod(&KnownPod::of(bound)).await?;
    tx.know_session_of_pod(&bound.pod_uid, new_sid).await?;
    tx.count_issued(&bound.policy_uid).await?;
    tx.count_issued(&bound.app_uid).await?;
    tx.forget_scopes_of_pod(&bound.pod_uid).await?;
    let effective_at = tx.now_millis() + SUPERSESSION_OVERLAP;
    let mut superseded = false;
    for session in tx.unended_sessions_by_pod(&bound.pod_uid).await? {
        if session.sid == *new_sid || !tx.end_session(&session, EndReason::Superseded, effective_at).await? {
            continue;
        }
        // One that has expired only ends so that nothing is delegated to it any more.
        if session.exp < tx.now_seconds() {
            continue;
        }
        superseded = true;
        let detail = format!(
            "pod {}/{} registered again; the former token stands for {} s more",
            bound.namespace,
            bound.pod_name,
            SUPERSESSION_OVERLAP.as_secs()
        );
        tx.audit(EventDraft::success(EventType::AgentSuperseded, detail).of_session(&session));
    }
    for held in tx.standing_delegations_to_pod(&bound.pod_uid).await? {
        tx.end_session(&held, EndReason::Superseded, effective_at).await?;
    }
    if superseded {
        let since = tx.now_millis() - SUPERSESSION_WINDOW;
        if tx.count_supersession(&bound.pod_uid, since).await? == SUPERSESSIONS_REPORTED {
            denials::feed(
                tx,
                &live_pod(bound),
                &bound.policy_name,
                DenialKind::SupersededOften,
                "",
            )
            .await?;
        }
    }
    Ok(())
}

/// Whether pod and policies still allow a session to be renewed, and the ceiling of the bearer's namespace what it has of
/// the session, which may be one of another namespace.
pub(crate) async fn check_renew(
    tx: &mut dyn Tx,
    ceilings: &ScopeCeilings,
    session: &Session,
    bearer: &Claims,
) -> Result<Option<PodRefusal>> {
    let Some(bound) = &session.attested else {
        return Ok(None);
    };
    let kind = match pod_denial(tx, &bound.pod_uid).await? {
        // Its sessions ended with it, so the caller gets the code for an ended session.
        Some(DenialKind::PodEnded) => {
            return Ok(Some(PodRefusal {
                code: ErrorCode::Revoked,
                ..PodRefusal::from(DenialKind::PodEnded)
            }));
        }
        Some(kind) => Some(kind),
        None if !ceilings.of_agent(&bearer.sub).allows(&bearer.scope) => Some(DenialKind::PolicyChanged),
        None => match pair(tx, ceilings, &bound.namespace, &bound.policy_name).await? {
            Some(pair) => pair.still_stands(bound, &session.scope).err(),
            None => Some(DenialKind::PolicyRemoved),
        },
    };
    Ok(kind.map(PodRefusal::from))
}
