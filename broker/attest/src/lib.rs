//! Who a caller from the cluster is: `TokenReview` of its ServiceAccount token and a look at its pod.
//!
//! The only part of the broker that speaks to Kubernetes, and its only user of kube. [`Attestor`] is what it asks the API server;
//! [`Attestation`] is how: cheap checks first, few reviews at a time, and no answer of the API server kept for a pod.
#![deny(missing_docs)]

mod attestation;
mod bearer;
mod identity;
mod kube_attestor;
mod metrics;
mod pod_facts;
mod pod_labels;

use async_trait::async_trait;
use secrecy::SecretString;

pub use attestation::{AttestError, Attestation, AttestedPod, ReviewLimit, Settings};
pub use identity::{BoundPod, Caller};
pub use kube_attestor::KubeAttestor;
pub use metrics::AttestMetrics;
pub use pod_facts::{PodFacts, SidecarPolicy};
pub use pod_labels::{MAX_POD_LABELS, PodLabels};

/// The answer of a `TokenReview`, as far as the broker looks at it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Review {
    /// `status.authenticated`.
    pub authenticated: bool,
    /// `status.audiences`: those asked for that the token really has.
    pub audiences: Vec<String>,
    /// `status.user.username`.
    pub username: String,
    /// `status.user.extra["authentication.kubernetes.io/pod-name"]`.
    pub pod_name: Option<String>,
    /// `status.user.extra["authentication.kubernetes.io/pod-uid"]`.
    pub pod_uid: Option<String>,
    /// `status.user.extra["authentication.kubernetes.io/node-name"]`.
    pub node: Option<String>,
}

/// The API server gave no usable answer; whatever the cause, nothing is known about the caller.
#[derive(Debug, thiserror::Error)]
pub enum AttestorError {
    /// No configuration to reach the API server with.
    #[error("no way to reach the Kubernetes API server is configured")]
    Configuration(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It did not answer.
    #[error("the Kubernetes API server did not answer")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It refused the broker itself, which lacks a permission.
    #[error("the Kubernetes API server refused the broker: it needs to create tokenreviews and get pods")]
    BrokerRefused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It answered what makes no sense here.
    #[error("the Kubernetes API server answered with an error")]
    Unexpected(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Too many reviews are waiting already.
    #[error("too many attestations are waiting for the Kubernetes API server")]
    Busy,
}

impl AttestorError {
    /// A word for metrics and logs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Configuration(_) => "configuration",
            Self::Unreachable(_) => "unreachable",
            Self::BrokerRefused(_) => "broker_refused",
            Self::Unexpected(_) => "unexpected",
            Self::Busy => "busy",
        }
    }
}

/// What the broker asks the Kubernetes API server.
#[async_trait]
pub trait Attestor: Send + Sync {
    /// Asks whose token this is, for the audience of the installation.
    ///
    /// # Errors
    /// When there is no usable answer; a token that is refused is an answer.
    async fn review(&self, token: &SecretString, audience: &str) -> Result<Review, AttestorError>;

    /// Reads a pod from the store behind the API server; `None` when there is none of that name.
    ///
    /// # Errors
    /// When there is no usable answer.
    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<PodFacts>, AttestorError>;
}
