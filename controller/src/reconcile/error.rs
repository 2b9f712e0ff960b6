//! Why a reconciliation has to be tried again.

use crate::report::{Categorised, Category};

/// Why a reconciliation has to be tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    /// The API server refused or didn't answer.
    #[error("{doing} {namespace}/{name} failed")]
    Api {
        /// What we were doing.
        doing: &'static str,
        /// Reason of the Event.
        event: &'static str,
        namespace: String,
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    /// The object doesn't have the form of its kind.
    #[error("the object {namespace}/{name} doesn't have the form of its kind: {error}")]
    Malformed {
        namespace: String,
        name: String,
        error: String,
    },
    /// This replica doesn't lead any more: the next leader looks for itself.
    #[error("this replica doesn't hold the Lease")]
    NotLeading,
    /// It failed a moment ago, and nothing has changed since.
    #[error("writes for {namespace}/{name} wait after a failure")]
    BackingOff { namespace: String, name: String },
}

impl ReconcileError {
    /// Reason of the Event about it.
    pub(crate) const fn event(&self) -> &'static str {
        match self {
            Self::Api { event, .. } => event,
            Self::Malformed { .. } => "NotReadable",
            Self::BackingOff { .. } | Self::NotLeading => "Rests",
        }
    }

    /// Whether nothing failed, and nothing was tried.
    pub(crate) const fn is_a_pause(&self) -> bool {
        matches!(self, Self::BackingOff { .. } | Self::NotLeading)
    }
}

impl Categorised for ReconcileError {
    fn category(&self) -> Category {
        match self {
            Self::Api { .. } | Self::BackingOff { .. } | Self::NotLeading => Category::Kubernetes,
            Self::Malformed { .. } => Category::MalformedObject,
        }
    }
}
