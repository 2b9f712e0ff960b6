//! How the API server is asked: cheap checks first, a limit per source, few questions at a time, nothing kept for pods.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::k8s::DenialKind;
use agentwrit_protocol::{Clock, PodUid};
use agentwrit_server::{Source, Turn, Turns};
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::metrics::{ApiCall, AttestMetrics};
use crate::{Attestor, AttestorError, BoundPod, Caller, PodLabels, bearer, identity};

/// Most calls in flight at the API server: for all sources, and beside them some for the controller's source alone.
const MAX_IN_FLIGHT: usize = 14;
const MAX_CONTROLLER_IN_FLIGHT: usize = 2;
/// Most calls that wait.
const MAX_WAITING: usize = 2_048;
/// How long after its last review the controller's source is still known as that.
const CONTROLLER_SOURCE: Duration = Duration::from_mins(10);
/// Longest wait for one of them to be answered before ours is asked.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the controller's own review is believed.
const CONTROLLER_CACHE: Duration = Duration::from_secs(5);

/// How often a source may have the API server asked; the program's rate limits decide it.
pub trait ReviewLimit: Send + Sync {
    /// Whether this source may have one more `TokenReview` now.
    fn allows_review(&self, source: Source) -> bool;
}

/// What the operator configures.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `AA_ATTEST_AUDIENCE`: the audience that a token must be made for.
    pub audience: String,
    /// `AA_CONTROLLER_SUBJECT`: full username of the only ServiceAccount that may write policy.
    pub controller_subject: String,
}

/// Why a caller got no further.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// It was refused.
    #[error("refused: {}", kind.as_str())]
    Denied {
        /// The precise kind.
        kind: DenialKind,
        /// Who it is, when the API server has vouched for it.
        caller: Option<Box<Caller>>,
    },
    /// Nothing is known: 503.
    #[error("attestation is not available")]
    Unavailable(#[from] AttestorError),
}

/// A pod that was looked at just now and is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestedPod {
    /// `system:serviceaccount:<namespace>:<name>`.
    pub username: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// ServiceAccount that the pod runs under.
    pub service_account: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: PodUid,
    /// Node that it runs on; empty when not known.
    pub node: String,
    /// Its labels as they are now.
    pub labels: PodLabels,
}

/// A caller whose token is bound to a pod, and its turn at the API server: who waited for one question waits for no
/// second, so that where more ask than can be answered, those who began are served rather than sent away half-way.
#[derive(Debug)]
pub struct PodCaller {
    /// Who it is.
    pub caller: Caller,
    bound: BoundPod,
    turn: Turn,
}

struct Believed {
    token: [u8; 32],
    address: IpAddr,
    /// By the monotonic clock.
    since: Duration,
    caller: Caller,
}

/// Answers who a caller is. One for the process.
pub struct Attestation {
    attestor: Arc<dyn Attestor>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    in_flight: Turns,
    controllers: Turns,
    limit: Arc<dyn ReviewLimit>,
    controller: Mutex<Option<Believed>>,
    metrics: AttestMetrics,
}

impl Attestation {
    /// Asks `attestor`, under the limits above and `limit`.
    pub fn new(
        attestor: Arc<dyn Attestor>,
        limit: Arc<dyn ReviewLimit>,
        clock: Arc<dyn Clock>,
        settings: Settings,
        metrics: AttestMetrics,
    ) -> Self {
        Self {
            attestor,
            clock,
            settings,
            in_flight: Turns::new(MAX_IN_FLIGHT, MAX_WAITING),
            controllers: Turns::new(MAX_CONTROLLER_IN_FLIGHT, MAX_WAITING),
            limit,
            controller: Mutex::new(None),
            metrics,
        }
    }

    /// What is counted.
    pub fn metrics(&self) -> &AttestMetrics {
        &self.metrics
    }

    /// The caller behind `authorization`, when it is the controller; its review is believed for 5 s.
    ///
    /// # Errors
    /// Refused, or nothing known.
    pub async fn controller(&self, authorization: Option<&str>, address: IpAddr) -> Result<Caller, AttestError> {
        let token = self.precheck(authorization)?;
        let hash = <[u8; 32]>::from(Sha256::digest(token.expose_secret().as_bytes()));
        if let Some(caller) = self.believed(&hash) {
            return Ok(caller);
        }
        let (caller, _) = self.review(&token, address).await?;
        if caller.username != self.settings.controller_subject {
            return Err(denied(DenialKind::NotController, Some(caller)));
        }
        *self.controller.lock() = Some(Believed {
            token: hash,
            address: address.to_canonical(),
            since: self.clock.monotonic(),
            caller: caller.clone(),
        });
        Ok(caller)
    }

    /// The caller behind `authorization`, when its token is bound to a pod. Asked each time.
    ///
    /// # Errors
    /// Refused, or nothing known.
    pub async fn pod_caller(&self, authorization: Option<&str>, address: IpAddr) -> Result<PodCaller, AttestError> {
        let token = self.precheck(authorization)?;
        let (caller, turn) = self.review(&token, address).await?;
        match caller.pod.clone() {
            Some(bound) => Ok(PodCaller { caller, bound, turn }),
            None => Err(denied(DenialKind::NotBoundToPod, Some(caller))),
        }
    }

    /// Looks at the caller's pod now: it exists, lives, and its annotation names `policy`.
    ///
    /// # Errors
    /// Refused, or nothing known.
    pub async fn living_pod(&self, known: PodCaller, policy: &str) -> Result<AttestedPod, AttestError> {
        let PodCaller { caller, bound, turn } = known;
        let asked = self.clock.monotonic();
        let answer = self.attestor.pod(&caller.namespace, &bound.name).await;
        self.answered(ApiCall::Pod, asked);
        drop(turn);
        let pod = answer?;
        if let Err(kind) = identity::check_pod(&caller, &bound, pod.as_ref(), policy) {
            return Err(denied(kind, Some(caller)));
        }
        let pod = pod.unwrap_or_default();
        Ok(AttestedPod {
            username: caller.username,
            namespace: caller.namespace,
            service_account: caller.service_account,
            name: bound.name,
            uid: bound.uid,
            node: pod.node.or(bound.node).unwrap_or_default(),
            labels: pod.labels,
        })
    }

    fn precheck(&self, authorization: Option<&str>) -> Result<SecretString, AttestError> {
        bearer::precheck(authorization, &self.settings.audience, self.clock.unix_seconds())
            .map_err(|kind| denied(kind, None))
    }

    /// How long ago the controller was reviewed.
    fn age(&self, believed: &Believed) -> Duration {
        self.clock.monotonic().saturating_sub(believed.since)
    }

    fn believed(&self, hash: &[u8; 32]) -> Option<Caller> {
        let believed = self.controller.lock();
        believed
            .as_ref()
            .filter(|entry| entry.token == *hash && self.age(entry) <= CONTROLLER_CACHE)
            .map(|entry| entry.caller.clone())
    }

    /// Who it is, and the turn in which that was asked.
    async fn review(&self, token: &SecretString, address: IpAddr) -> Result<(Caller, Turn), AttestError> {
        let source = if self.is_controllers(address) {
            Source::exact(address)
        } else {
            Source::of(address)
        };
        if !self.limit.allows_review(source) {
            return Err(denied(DenialKind::SourceRateLimited, None));
        }
        let turn = self.turn(address).await?;
        let asked = self.clock.monotonic();
        let answer = self.attestor.review(token, &self.settings.audience).await;
        self.answered(ApiCall::Review, asked);
        let caller = identity::caller(answer?, &self.settings.audience).map_err(|kind| denied(kind, None))?;
        Ok((caller, turn))
    }

    fn answered(&self, call: ApiCall, asked: Duration) {
        self.metrics
            .answered(call, self.clock.monotonic().saturating_sub(asked).as_secs_f64());
    }

    /// Sources take turns; the address that the controller was seen at has turns of its own.
    async fn turn(&self, address: IpAddr) -> Result<Turn, AttestorError> {
        let turns = if self.is_controllers(address) {
            &self.controllers
        } else {
            &self.in_flight
        };
        match tokio::time::timeout(QUEUE_TIMEOUT, turns.acquire(Source::of(address))).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(AttestorError::Busy),
        }
    }

    fn is_controllers(&self, address: IpAddr) -> bool {
        let believed = self.controller.lock();
        believed
            .as_ref()
            .is_some_and(|entry| entry.address == address.to_canonical() && self.age(entry) <= CONTROLLER_SOURCE)
    }
}

fn denied(kind: DenialKind, caller: Option<Caller>) -> AttestError {
    AttestError::Denied {
        kind,
        caller: caller.map(Box::new),
    }
}

#[cfg(test)]
mod tests;
