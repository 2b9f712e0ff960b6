//! Callers from the cluster, from their bearer to a committed answer.

use std::net::IpAddr;

use agentwrit_attest::{AttestError, Attestation, AttestorError, BoundPod, Caller};
use agentwrit_protocol::EntropyError;
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::k8s::DenialKind;
use agentwrit_protocol::k8s::{LivePod, PodLaunchRequest, PodLaunchResponse};
use agentwrit_store::{LaunchTokenHash, StoreError};

use super::denials::{RecordDenial, Refused};
use super::launch::{LAUNCH_TOKEN_SECONDS, LaunchAsk, LaunchPod};
use super::pod_binding::Refusal;
use super::policy::input::InputError;
use super::policy::write::{WriteRefusal, Writer};
use crate::broker::Broker;
use crate::service::error::{Internal, from_internal};

/// Why a call of the attestation and policy API failed.
#[derive(Debug, thiserror::Error)]
pub enum K8sError {
    /// A value is missing or out of range.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Refused, in the closed vocabulary.
    #[error("refused: {}", .0.error_kind)]
    Refused(Refusal),
    /// A policy write was not taken.
    #[error(transparent)]
    Write(WriteRefusal),
    /// The API server gave no usable answer.
    #[error(transparent)]
    Attestor(#[from] AttestorError),
    /// A failure inside.
    #[error(transparent)]
    Internal(#[from] Internal),
}

from_internal!(K8sError: StoreError, EntropyError);

impl From<WriteRefusal> for K8sError {
    fn from(refusal: WriteRefusal) -> Self {
        match refusal {
            WriteRefusal::Input(error) => Self::Input(error),
            refusal => Self::Write(refusal),
        }
    }
}

/// One call as it came in.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// The `Authorization` header, when it is text.
    pub authorization: Option<&'a str>,
    /// Network address of the caller.
    pub source: IpAddr,
}

/// The controller, or nobody.
///
/// # Errors
/// Anybody else is refused, and that is audited.
pub async fn controller(broker: &Broker, gate: &Attestation, call: Incoming<'_>) -> Result<Writer, K8sError> {
    let source = call.source.to_string();
    match gate.controller(call.authorization, call.source).await {
        Ok(caller) => Ok(Writer {
            actor: caller.username,
            source,
        }),
        Err(error) => Err(refused(broker, gate, error, Asked::default(), call.source).await),
    }
}

/// A launch token for the pod that calls.
///
/// # Errors
/// Every refusal is audited.
pub async fn launch(
    broker: &Broker,
    gate: &Attestation,
    call: Incoming<'_>,
    request: impl FnOnce() -> Result<PodLaunchRequest, InputError>,
) -> Result<PodLaunchResponse, K8sError> {
    let source = call.source.to_string();
    let (caller, bound) = match gate.pod_caller(call.authorization, call.source).await {
        Ok(known) => known,
        Err(error) => return Err(refused(broker, gate, error, Asked::default(), call.source).await),
    };
    let ask = LaunchAsk::parse(&caller.namespace, request()?)?;
    let pod = match gate.living_pod(&caller, &bound, &ask.policy, call.source).await {
        Ok(pod) => pod,
        Err(error) => {
            let asked = Asked {
                text: ask.asked(&[]),
                policy: ask.policy,
            };
            return Err(refused(broker, gate, error, asked, call.source).await);
        }
    };
    let launch = LaunchPod::new(pod, ask, broker.config.max_ttl, source, broker.entropy.as_ref())?;
    match broker.store.commit(launch).await? {
        Ok(launched) => {
            let now = broker.judging.times().judged;
            let hash = LaunchTokenHash::of(launched.launch_token.expose());
            broker
                .launch_tokens
                .add(hash, now.saturating_add(LAUNCH_TOKEN_SECONDS.saturating_mul(1000)), now);
            gate.metrics().launched();
            broker.metrics.launch_tokens_created.inc();
            Ok(launched)
        }
        Err(refusal) => {
            gate.metrics().denied(refusal.error_kind);
            Err(K8sError::Refused(refusal))
        }
    }
}

/// What a caller asked for, as far as that was read: a stranger's body isn't.
#[derive(Default)]
struct Asked {
    /// LaunchToken that was named.
    policy: String,
    /// In a few words.
    text: String,
}

async fn refused(broker: &Broker, gate: &Attestation, error: AttestError, asked: Asked, source: IpAddr) -> K8sError {
    let (kind, caller) = match error {
        AttestError::Denied { kind, caller } => (kind, caller),
        AttestError::Unavailable(error) => {
            gate.metrics().unavailable();
            tracing::warn!(target: "K8S", component = "Attest", kind = error.kind(), error = %chain(&error), "attestation is not available");
            return error.into();
        }
    };
    gate.metrics().denied(kind.as_str());
    match caller {
        // A stranger: it must not make anybody wait, and beyond its source's rate it is only counted.
        None => broker.audit_denial(source, anonymous(kind)),
        Some(caller) => {
            let record = known(kind, *caller, asked, source);
            if let Err(error) = broker.store.commit(record).await {
                return error.into();
            }
        }
    }
    K8sError::Refused(kind.into())
}

fn anonymous(kind: DenialKind) -> agentwrit_store::DenialDraft {
    let refused = Refused {
        kind,
        pod: None,
        policy: "",
        policy_uid: "",
        correlation_id: "",
        orch_id: "",
        task_id: "",
        actor: "",
        source: "",
        note: "",
        asked: "",
    };
    refused.draft(EventType::AttestationDenied)
}

fn known(kind: DenialKind, caller: Caller, asked: Asked, source: IpAddr) -> RecordDenial {
    let live = |pod: BoundPod| LivePod {
        uid: pod.uid,
        namespace: caller.namespace.clone(),
        name: pod.name,
    };
    RecordDenial {
        kind,
        pod: caller.pod.clone().map(live),
        policy: asked.policy,
        actor: caller.username,
        source: source.to_string(),
        asked: asked.text,
    }
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
