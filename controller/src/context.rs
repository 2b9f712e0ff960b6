//! What the rooms of the controller share.

use std::sync::Arc;

use agentwrit_crds::{AgentApp, LaunchToken};
use agentwrit_protocol::{Clock, Entropy};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, Store};
use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::config::Config;
use crate::credentials::Credentials;
use crate::ending_namespaces::EndingNamespaces;
use crate::http::ops::Readiness;
use crate::leader::leadership::Leadership;
use crate::metrics::Metrics;
use crate::pki::ca_bundles::CaBundles;
use crate::pki::ca_distribution::{CaEvent, CaEvents};
use crate::pki::trust::Trust;
use crate::pod_end::{BrokersPods, SilentPods};
use crate::policy_client::PolicyClient;
use crate::reconcile::policy_resource::Caches;
use crate::reconcile::queue::{Queue, Requests};
use crate::reconcile::{Version, Written};
use crate::report::Reporter;

/// What the rooms share; made once, by [`Parts::into_context`].
pub(crate) struct Context {
    pub(crate) config: Config,
    /// For reading.
    pub(crate) client: Client,
    /// For writing: it does so only while this replica leads.
    pub(crate) writer: Client,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) reporter: Reporter,
    pub(crate) readiness: Arc<Readiness>,
    /// Which CAs are trusted, and which signs.
    pub(crate) trust: Trust,
    /// Whether this replica may write.
    pub(crate) leadership: Leadership,
    pub(crate) broker: PolicyClient,
    /// Namespaces, as the webhook needs them.
    pub(crate) namespaces: Store<PartialObjectMeta<Namespace>>,
    /// Those of them that are being deleted.
    pub(crate) ending: EndingNamespaces,
    /// The custom resources, as last seen.
    pub(crate) caches: Caches,
    /// Asks for the reconciliation of an `AgentApp`.
    pub(crate) apps: Queue<AgentApp>,
    /// Asks for the reconciliation of a `LaunchToken`.
    pub(crate) launch_tokens: Queue<LaunchToken>,
    /// The Secrets of clients outside the cluster.
    pub(crate) credentials: Credentials,
    /// What failed for an object, and until when it isn't tried again.
    pub(crate) backoff: Backoff<Version>,
    /// Our writes that the caches don't show yet.
    pub(crate) written: Written,
    /// Says which namespaces need the CA `ConfigMap`.
    pub(crate) ca_events: CaEvents,
    /// The state of the CA `ConfigMap`s.
    pub(crate) ca_bundles: CaBundles,
    /// The pods of the broker's last list.
    pub(crate) brokers_pods: watch::Sender<Option<Arc<BrokersPods>>>,
    /// Pods that haven't reached the broker yet.
    pub(crate) silent: Arc<SilentPods>,
}

impl Context {
    /// This namespace has something that needs the CA `ConfigMap`; one that is being deleted needs nothing any more.
    pub(crate) fn needs_ca(&self, namespace: String) {
        if !self.ending.has(&namespace) {
            // The receiver is gone only when the process ends.
            let _ = self.ca_events.send(CaEvent::Needed(namespace));
        }
    }
}

/// What a context is made from.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) client: Client,
    pub(crate) writer: Client,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) reporter: Reporter,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) trust: Trust,
    pub(crate) ca_events: CaEvents,
    pub(crate) leadership: Leadership,
    pub(crate) broker: PolicyClient,
    pub(crate) namespaces: Store<PartialObjectMeta<Namespace>>,
    pub(crate) ending: EndingNamespaces,
}

/// The other ends of a [`Context`]'s caches and queues: what the reconcilers fill and work off.
pub(crate) struct ReconcileFeeds {
    pub(crate) apps: Writer<DeserializeGuard<AgentApp>>,
    pub(crate) launch_tokens: Writer<DeserializeGuard<LaunchToken>>,
    pub(crate) app_requests: Requests<AgentApp>,
    pub(crate) token_requests: Requests<LaunchToken>,
}

impl Parts {
    /// The context with empty caches and queues of custom resources, and their other ends.
    pub(crate) fn into_context(self) -> (Arc<Context>, ReconcileFeeds) {
        let (apps, apps_writer) = reflector::store();
        let (launch_tokens, tokens_writer) = reflector::store();
        let (app_queue, app_requests) = Queue::new();
        let (token_queue, token_requests) = Queue::new();
        let silent = Arc::new(SilentPods::new(Arc::clone(&self.metrics)));
        let context = Context {
            credentials: Credentials::new(self.config.client_credentials()),
            config: self.config,
            client: self.client,
            writer: self.writer,
            clock: self.clock,
            entropy: self.entropy,
            metrics: self.metrics,
            reporter: self.reporter,
            readiness: self.readiness,
            trust: self.trust,
            leadership: self.leadership,
            broker: self.broker,
            namespaces: self.namespaces,
            ending: self.ending,
            caches: Caches {
                apps,
                launch_tokens,
                tokens_by_app: Arc::default(),
            },
            apps: app_queue,
            launch_tokens: token_queue,
            backoff: Backoff::default(),
            written: Written::default(),
            ca_events: self.ca_events,
            ca_bundles: CaBundles::default(),
            brokers_pods: watch::Sender::new(None),
            silent,
        };
        let feeds = ReconcileFeeds {
            apps: apps_writer,
            launch_tokens: tokens_writer,
            app_requests,
            token_requests,
        };
        (Arc::new(context), feeds)
    }
}
