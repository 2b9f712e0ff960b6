//! A launch token for an attested pod: single use, 30 s, bound to its key and its two ids.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_attest::{AttestedPod, PodLabels};
use agentwrit_limits::Asker;
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::excerpt::{EVENT_SCOPES_BYTES, excerpt_list, list_scopes, truncate};
use agentwrit_protocol::k8s::{DenialKind, LabelSelector, LivePod, PodLaunchResponse};
use agentwrit_protocol::timestamp::rfc3339_seconds;
use agentwrit_protocol::wire::LaunchPolicy;
use agentwrit_protocol::{Entropy, EntropyError, OrchId, Scope, ScopeSet, Sensitive, TaskId, Ttl, lower_hex};
use agentwrit_store::policy::Policy;
use agentwrit_store::{Attested, Command, EventDraft, KnownPod, LaunchToken, LaunchTokenHash, Result, Tx};
use async_trait::async_trait;

use super::denials::{self, PodDenial, sentence};
use super::error::PodRefusal;
use super::launch_ask::LaunchAsk;
use super::launch_bucket::advance;
use super::places::{self, Full};
use super::pod_binding::{pair, pod_denial};
use super::policy::ceilings::{BEYOND, is_beyond};
use super::policy::rules::{Effective, Pair};
use crate::config::ScopeCeilings;

/// Life of a launch token.
pub(crate) const LAUNCH_TOKEN_TTL: Ttl = Ttl::seconds(30);
/// One launch a pod each 10 s, three at once.
const LAUNCH_INTERVAL: Duration = Duration::from_secs(10);
const LAUNCH_BURST: u32 = 3;
/// Bytes that the list in a note takes at most.
const MAX_NOTE_BYTES: usize = 512;

/// Launches a pod that was attested just now, if the policies allow it.
#[derive(Debug)]
pub(crate) struct LaunchPod {
    pod: AttestedPod,
    ask: LaunchAsk,
    token: Sensitive,
    correlation_id: String,
    longest_ttl: Ttl,
    source: String,
    ceilings: Arc<ScopeCeilings>,
}

impl LaunchPod {
    /// Prepares a launch; `longest_ttl` is `AA_MAX_TTL`, 0 for none.
    pub(crate) fn new(
        pod: AttestedPod,
        ask: LaunchAsk,
        longest_ttl: Ttl,
        source: String,
        ceilings: Arc<ScopeCeilings>,
        entropy: &dyn Entropy,
    ) -> std::result::Result<Self, EntropyError> {
        let (mut token, mut correlation) = ([0_u8; 32], [0_u8; 16]);
        entropy.fill(&mut token)?;
        entropy.fill(&mut correlation)?;
        Ok(Self {
            pod,
            ask,
            token: Sensitive::from(lower_hex(token)),
            correlation_id: lower_hex(correlation),
            longest_ttl,
            source,
            ceilings,
        })
    }
}

/// A denial with what is special about it.
type Denied = (DenialKind, String);

#[async_trait]
impl Command for LaunchPod {
    type Outcome = std::result::Result<PodLaunchResponse, PodRefusal>;
    const ISSUES: bool = true;

    async fn run(self, tx: &mut dyn Tx) -> Result<Self::Outcome> {
        let pair = pair(tx, &self.ceilings, &self.pod.namespace, &self.ask.policy).await?;
        match self.decide(tx, pair.as_ref()).await? {
            Ok(grant) => self.issue(tx, grant).await.map(Ok),
            Err((kind, note)) => self.refuse(tx, kind, &note, pair.as_ref()).await.map(Err),
        }
    }
}

struct Grant {
    scopes: ScopeSet,
    max_ttl: Ttl,
    agent_name: String,
    attested: Attested,
}

impl LaunchPod {
    fn live_pod(&self) -> LivePod {
        LivePod {
            uid: self.pod.uid.clone(),
            namespace: self.pod.namespace.clone(),
            name: self.pod.name.clone(),
        }
    }

    /// The pod, when it is refused before it has launched.
    fn unlaunched(&self) -> KnownPod {
        KnownPod {
            pod: self.live_pod(),
            node: self.pod.node.clone(),
            service_account: self.pod.service_account.clone(),
            policy: self.ask.policy.clone(),
            orch_id: OrchId::default(),
        }
    }

    async fn decide(&self, tx: &mut dyn Tx, pair: Option<&Pair>) -> Result<std::result::Result<Grant, Denied>> {
        let denial = pod_denial(tx, &self.pod.uid).await?;
        if denial == Some(DenialKind::PodQuarantined) && !tx.pod_is_known(&self.pod.uid).await? {
            tx.know_pod(&self.unlaunched()).await?;
        }
        if let Some(kind) = denial {
            return Ok(Err((kind, String::new())));
        }
        let grant = match pair {
            Some(pair) => self.grant(pair),
            None => Err((
                DenialKind::LaunchTokenNotFound,
                format!("Namespace: {}, LaunchToken: {}", self.pod.namespace, self.ask.policy),
            )),
        };
        let grant = match grant {
            Ok(grant) => grant,
            Err(denied) => return Ok(Err(denied)),
        };
        // The registration decides; a pod that would be refused there needs no launch token.
        if let Some(pair) = pair
            && let Err(full) = places::check(tx, &pair.token, &self.pod.uid).await?
        {
            return Ok(Err((Full::KIND, full.note())));
        }
        let full_at = tx.launches_full_at(&self.pod.uid).await?;
        let Some(full_at) = advance(full_at, tx.now_millis(), LAUNCH_INTERVAL, LAUNCH_BURST) else {
            return Ok(Err((DenialKind::PodRateLimited, String::new())));
        };
        tx.set_launches_full_at(&self.pod.uid, full_at).await?;
        Ok(Ok(grant))
    }

    fn grant(&self, pair: &Pair) -> std::result::Result<Grant, Denied> {
        let effective = pair
            .launchable()
            .map_err(|kind| (kind, withdrawn_because(pair, kind)))?;
        if !effective.service_accounts.contains(&self.pod.service_account) {
            let note = format!(
                "The pod runs under {:?}; allowed: {}",
                self.pod.service_account,
                excerpt_list(&effective.service_accounts, MAX_NOTE_BYTES)
            );
            return Err((DenialKind::ServiceAccountNotAllowed, note));
        }
        self.check_labels(effective.pod_selector.as_ref())?;
        let scopes = self.scopes(&effective)?;
        let asked = self.ask.ttl.unwrap_or(effective.max_ttl);
        let max_ttl = asked.min(effective.max_ttl).capped_at(self.longest_ttl);
        let generation = |policy: &Policy| {
            policy
                .accepted
                .as_ref()
                .map_or(policy.generation, |accepted| accepted.generation)
        };
        let app = pair.app.as_ref().ok_or((DenialKind::AppNotReady, String::new()))?;
        Ok(Grant {
            scopes,
            max_ttl,
            attested: Attested {
                policy_uid: pair.token.uid.clone(),
                app_uid: app.uid.clone(),
                namespace: self.pod.namespace.clone(),
                policy_name: self.ask.policy.clone(),
                pod_uid: self.pod.uid.clone(),
                pod_name: self.pod.name.clone(),
                node: self.pod.node.clone(),
                service_account: self.pod.service_account.clone(),
                public_key: self.ask.public_key.clone(),
                orch_id: effective.orch_id,
                task_id: TaskId::from(&self.pod.uid),
                policy_generation: generation(&pair.token),
                app_generation: generation(app),
                renewal_proof: self.ask.renewal_proof,
            },
            agent_name: effective.agent_name,
        })
    }

    /// Whether the pod has the labels that the selector asks for. They may be changed later: this is decided once.
    fn check_labels(&self, selector: Option<&LabelSelector>) -> std::result::Result<(), Denied> {
        let Some(selector) = selector else {
            return Ok(());
        };
        let labels = match &self.pod.labels {
            PodLabels::Read(labels) => labels,
            PodLabels::TooMany => return Err((DenialKind::PodLabelsTooMany, String::new())),
        };
        match selector.unmet(labels) {
            None => Ok(()),
            Some(unmet) => {
                let note = format!("Not met: {}", truncate(&unmet, MAX_NOTE_BYTES));
                Err((DenialKind::PodNotSelected, note))
            }
        }
    }

    fn scopes(&self, effective: &Effective) -> std::result::Result<ScopeSet, Denied> {
        let Some(asked) = &self.ask.scopes else {
            return if effective.scopes.is_empty() {
                Err((DenialKind::ScopeNotAllowed, "They have no scope in common".into()))
            } else {
                Ok(effective.scopes.clone())
            };
        };
        let over = effective.scopes.uncovered(asked);
        if over.is_empty() {
            return Ok(asked.clone());
        }
        let names: Vec<&str> = over.into_iter().map(Scope::as_str).collect();
        Err((
            DenialKind::ScopeNotAllowed,
            format!("Not allowed: {}", excerpt_list(&names, MAX_NOTE_BYTES)),
        ))
    }

    async fn issue(self, tx: &mut dyn Tx, grant: Grant) -> Result<PodLaunchResponse> {
        tx.know_pod(&KnownPod::of(&grant.attested)).await?;
        let expires_at = tx.now_seconds() + LAUNCH_TOKEN_TTL;
        let launch = LaunchToken {
            hash: LaunchTokenHash::of(self.token.expose()),
            agent_name: grant.agent_name,
            allowed_scope: grant.scopes,
            max_ttl: grant.max_ttl,
            single_use: true,
            expires_at: tx.times().judged + LAUNCH_TOKEN_TTL,
            consumed_at: None,
            created_by: self.pod.username.clone(),
            correlation_id: self.correlation_id,
            attested: Some(grant.attested.clone()),
        };
        tx.insert_launch_token(&launch).await?;
        let allowed_scope = launch.allowed_scope.to_strings();
        let bound = grant.attested;
        let detail = format!(
            "launch token for pod {}/{} on node {} by LaunchToken {} (agent {}): scopes {}, at most {} s",
            bound.namespace,
            bound.pod_name,
            if bound.node.is_empty() { "unknown" } else { &bound.node },
            bound.policy_name,
            launch.agent_name,
            list_scopes(&allowed_scope, EVENT_SCOPES_BYTES),
            launch.max_ttl
        );
        let draft = EventDraft::success(EventType::LaunchTokenIssued, detail)
            .task(&bound.task_id)
            .orchestration(&bound.orch_id)
            .actor(&launch.created_by)
            .source(&self.source)
            .correlation_id(&launch.correlation_id)
            .policy_uid(&bound.policy_uid)
            .pod_uid(&bound.pod_uid);
        tx.audit(draft);
        Ok(PodLaunchResponse {
            launch_token: self.token,
            expires_at: rfc3339_seconds(expires_at),
            orch_id: bound.orch_id,
            task_id: bound.task_id,
            policy: LaunchPolicy {
                allowed_scope,
                max_ttl: launch.max_ttl,
            },
        })
    }

    async fn refuse(&self, tx: &mut dyn Tx, kind: DenialKind, note: &str, pair: Option<&Pair>) -> Result<PodRefusal> {
        let spec = pair.and_then(|pair| pair.token.accepted.as_ref()?.spec.launch_token());
        let names = spec.map_or([("agent_name", ""), ("app", "")], |spec| {
            [("agent_name", &spec.agent_name), ("app", &spec.app)]
        });
        let pod = self.live_pod();
        let refused = PodDenial {
            pod: Some(&pod),
            policy: &self.ask.policy,
            policy_uid: pair.map(|pair| &pair.token.uid),
            task_id: Some(&TaskId::from(&self.pod.uid)),
            actor: &self.pod.username,
            source: &self.source,
            note,
            request: &self.ask.describe_request(&names),
            ..PodDenial::of(kind)
        };
        denials::record(tx, Asker::Pod(&self.pod.uid), EventType::AttestationDenied, &refused).await?;
        let mut refusal = PodRefusal::from(kind);
        if !note.is_empty() {
            refusal.detail = sentence(kind, note);
        }
        Ok(refusal)
    }
}

/// The condition reason that the controller gave for the withdrawal, if any.
fn withdrawn_because(pair: &Pair, kind: DenialKind) -> String {
    let policy = match kind {
        DenialKind::LaunchTokenNotReady => Some(&pair.token),
        DenialKind::AppNotReady => pair.app.as_ref(),
        _ => None,
    };
    let reason = |policy: &Policy| match &policy.reason {
        Some(reason) => Some(reason.clone()),
        None => is_beyond(&pair.ceiling, policy).then(|| BEYOND.to_owned()),
    };
    policy
        .and_then(reason)
        .map_or_else(String::new, |reason| format!("Reason: {reason}"))
}
