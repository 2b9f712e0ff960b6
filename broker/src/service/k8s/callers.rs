//! Callers from the cluster, from their bearer to a committed answer.

use std::net::IpAddr;
use std::sync::Arc;

use agentwrit_attest::{AttestError, Attestation, BoundPod, Caller};
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::k8s::{DenialKind, LivePod, PodLaunchRequest, PodLaunchResponse};
use agentwrit_protocol::{Entropy, JudgingClock, Ttl, error_chain};
use agentwrit_store::{LaunchTokenHash, Store};
use prometheus::IntCounter;

use super::denials::{PodDenial, RecordDenial};
use super::error::K8sError;
use super::launch::{LAUNCH_TOKEN_TTL, LaunchPod};
use super::launch_ask::LaunchAsk;
use super::policy::input::InputError;
use crate::config::ScopeCeilings;
use crate::service::actor::Actor;
use crate::service::denial_auditor::DenialAuditor;
use crate::service::session::launch_token_check::RecentLaunchTokens;

/// One call as it came in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming<'a> {
    /// The `Authorization` header, when it is text.
    pub(crate) authorization: Option<&'a str>,
    /// Network address of the caller.
    pub(crate) source: IpAddr,
}

/// Checks callers from the cluster, and launches pods.
pub(crate) struct Callers<'a> {
    pub(crate) attestation: &'a Attestation,
    pub(crate) store: &'a Store,
    pub(crate) judging: &'a JudgingClock,
    pub(crate) entropy: &'a dyn Entropy,
    pub(crate) recent: &'a RecentLaunchTokens,
    pub(crate) denials: &'a DenialAuditor,
    pub(crate) created: &'a IntCounter,
    pub(crate) max_ttl: Ttl,
    pub(crate) ceilings: &'a Arc<ScopeCeilings>,
}

impl Callers<'_> {
    /// The controller; any other caller is refused, and that is audited.
    pub(crate) async fn controller(&self, call: Incoming<'_>) -> Result<Actor, K8sError> {
        let source = call.source.to_string();
        match self.attestation.controller(call.authorization, call.source).await {
            Ok(caller) => Ok(Actor {
                subject: caller.username,
                source,
            }),
            Err(error) => Err(self.refused(error, RequestAsRead::default(), call.source).await),
        }
    }

    /// A launch token for the pod that calls. Every refusal is audited.
    pub(crate) async fn launch(
        &self,
        call: Incoming<'_>,
        request: impl FnOnce() -> Result<PodLaunchRequest, InputError>,
    ) -> Result<PodLaunchResponse, K8sError> {
        let source = call.source.to_string();
        let known = match self.attestation.pod_caller(call.authorization, call.source).await {
            Ok(known) => known,
            Err(error) => return Err(self.refused(error, RequestAsRead::default(), call.source).await),
        };
        let ask = LaunchAsk::parse(&known.caller.namespace, request()?)?;
        let pod = match self.attestation.living_pod(known, &ask.policy).await {
            Ok(pod) => pod,
            Err(error) => {
                let request = RequestAsRead {
                    description: ask.describe_request(&[]),
                    policy: ask.policy,
                };
                return Err(self.refused(error, request, call.source).await);
            }
        };
        let launch = LaunchPod::new(pod, ask, self.max_ttl, source, Arc::clone(self.ceilings), self.entropy)?;
        match self.store.commit(launch).await? {
            Ok(launched) => {
                let now = self.judging.times().judged;
                let hash = LaunchTokenHash::of(launched.launch_token.expose());
                self.recent.add(hash, now + LAUNCH_TOKEN_TTL, now);
                self.attestation.metrics().launched();
                self.created.inc();
                Ok(launched)
            }
            Err(refusal) => {
                self.attestation.metrics().denied(refusal.error_kind);
                Err(K8sError::Refused(refusal))
            }
        }
    }

    async fn refused(&self, error: AttestError, request: RequestAsRead, source: IpAddr) -> K8sError {
        let metrics = self.attestation.metrics();
        let (kind, caller) = match error {
            AttestError::Denied { kind, caller } => (kind, caller),
            AttestError::Unavailable(error) => {
                metrics.unavailable();
                tracing::warn!(target: "K8S", component = "Attest", kind = error.kind(), error = %error_chain(&error), "attestation is not available");
                return error.into();
            }
        };
        metrics.denied(kind.as_str());
        match caller {
            // A stranger: nothing waits for its commit, and beyond its source's rate it is only counted.
            None => self
                .denials
                .stranger(source, PodDenial::of(kind).draft(EventType::AttestationDenied)),
            Some(caller) => {
                let record = known(kind, *caller, request, source);
                if let Err(error) = self.store.commit(record).await {
                    return error.into();
                }
            }
        }
        K8sError::Refused(kind.into())
    }
}

/// What a caller asked for, as far as that was read: a stranger's body isn't.
#[derive(Default)]
struct RequestAsRead {
    /// LaunchToken that was named.
    policy: String,
    /// In a few words.
    description: String,
}

fn known(kind: DenialKind, caller: Caller, request: RequestAsRead, source: IpAddr) -> RecordDenial {
    let live = |pod: BoundPod| LivePod {
        uid: pod.uid,
        namespace: caller.namespace.clone(),
        name: pod.name,
    };
    RecordDenial {
        kind,
        pod: caller.pod.clone().map(live),
        policy: request.policy,
        actor: caller.username,
        source: source.to_string(),
        request: request.description,
    }
}
