//! Keys and certificates that the installation owns.

pub(crate) mod authority;
pub(crate) mod ca_bundle;
pub(crate) mod ca_bundles;
pub(crate) mod ca_distribution;
pub(crate) mod ca_keeper;
pub(crate) mod ca_reach;
mod ca_secret;
pub(crate) mod config_maps;
#[cfg(test)]
mod fake;
pub(crate) mod issued;
pub(crate) mod keeper;
pub(crate) mod key_rotation;
pub(crate) mod patience;
pub(crate) mod secrets;
pub(crate) mod signing_key;
mod succession;
pub(crate) mod trust;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::context::Context;
use crate::leader::guard::is_not_leading;
use crate::report::{Categorised, Category};
use authority::{certificates, validity};

/// Label of the objects that are ours.
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value.
pub(crate) const MANAGER: &str = "agentwrit-controller";

/// Starts what keeps the CA `ConfigMap`s; a `LaunchToken` is reconciled again when its namespace's state changes.
pub(crate) fn spawn(
    context: &Arc<Context>,
    ca_events: mpsc::UnboundedReceiver<ca_distribution::CaEvent>,
    tasks: &mut JoinSet<()>,
) {
    let (writer, reporter, trust) = (context.writer.clone(), context.reporter.clone(), context.trust.clone());
    let config_maps = config_maps::ConfigMaps::new(writer, reporter, trust);
    tasks.spawn(follow(Arc::clone(context)));
    let shared = Arc::clone(context);
    tasks.spawn(ca_distribution::keep(
        config_maps,
        context.config.namespace.clone(),
        ca_events,
        (context.leadership.clone(), context.trust.clone()),
        context.ca_bundles.clone(),
        move |namespace| {
            for token in shared.caches.launch_tokens_in(namespace) {
                shared.launch_tokens.add(token);
            }
        },
    ));
}

/// Uses another CA at once when there is one; runs for ever.
async fn follow(context: Arc<Context>) {
    let mut changes = context.trust.changes();
    loop {
        let trusted = Arc::clone(&changes.borrow_and_update());
        let ends = certificates(trusted.signer.certificates()).into_iter();
        if let Some(to) = ends.filter_map(|ca| Some(validity(&ca).ok()?.1)).min() {
            context.metrics.ca_not_after.set(to.get());
        }
        context.broker.trust(&trusted.bundle);
        // The receiver is gone only when the process ends.
        let _ = context.ca_events.send(ca_distribution::CaEvent::Replaced);
        // The sender is the context's own.
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Why a key, a certificate or the object that holds it isn't as it should be.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A certificate can't be made.
    #[error("{what} can't be made")]
    Make {
        what: &'static str,
        #[source]
        source: rcgen::Error,
    },
    /// The system's randomness failed.
    #[error("the signing key can't be made")]
    Entropy(#[from] agentwrit_protocol::EntropyError),
    /// What is stored isn't usable; we never overwrite it.
    #[error("{kind} {name} holds no usable {key}: {why}; delete it to have a new one made, or repair it")]
    Stored {
        /// Kind of the object.
        kind: &'static str,
        name: String,
        key: String,
        why: String,
    },
    /// A CA can't follow another yet.
    #[error("the next step from one CA to another has to wait: {behind}; once that is put right it goes on by itself")]
    Behind { behind: String },
    /// What cert-manager has issued can't be used.
    #[error("the Secret {secret} can't be used: {error}")]
    NotIssued {
        secret: &'static str,
        error: issued::IssuedError,
    },
    /// An object of that name has another owner.
    #[error(
        "{kind} {namespace}/{name} has no label {MANAGED_BY}={MANAGER}: it is not ours and is left as it is; rename or remove it"
    )]
    NotOurs {
        /// Kind of the object.
        kind: &'static str,
        namespace: String,
        name: String,
    },
    /// The API server refused or didn't answer.
    #[error("{doing} failed")]
    Api {
        /// What we were doing.
        doing: String,
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server took too long.
    #[error("{doing} took more than {} s", limit.as_secs())]
    Slow {
        /// What we were doing.
        doing: String,
        /// How long we waited.
        limit: Duration,
    },
}

impl PkiError {
    pub(crate) fn api(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Api {
            doing,
            source: Box::new(source),
        }
    }

    /// Whether the API server says that this replica has no right to it.
    pub(crate) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Api { source, .. } if is_code(source, 403))
    }

    /// Whether this replica doesn't lead, which is no failure.
    pub(crate) fn is_not_leading(&self) -> bool {
        matches!(self, Self::Api { source, .. } if is_not_leading(source))
    }
}

impl Categorised for PkiError {
    fn category(&self) -> Category {
        match self {
            Self::NotOurs { .. } => Category::NotOurs,
            Self::Api { .. } | Self::Slow { .. } => Category::Kubernetes,
            Self::Make { .. }
            | Self::Entropy(_)
            | Self::Stored { .. }
            | Self::Behind { .. }
            | Self::NotIssued { .. } => Category::Pki,
        }
    }
}

/// Metadata of an object that we make.
fn our_metadata(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(
            [
                (MANAGED_BY.to_owned(), MANAGER.to_owned()),
                ("app.kubernetes.io/part-of".to_owned(), "agentwrit".to_owned()),
            ]
            .into(),
        ),
        ..ObjectMeta::default()
    }
}

/// Whether the object is one that we made.
fn is_ours(metadata: &ObjectMeta) -> bool {
    metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(MANAGED_BY))
        .map(String::as_str)
        == Some(MANAGER)
}

fn is_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}
