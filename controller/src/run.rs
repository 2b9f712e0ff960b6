//! Puts the parts together and runs them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_client::{BrokerClient, ClientConfig, ConfigError, Identity, Trust};
use agentwrit_crds::{AgentApp, LaunchToken};
use agentwrit_protocol::{Clock, Entropy};
use agentwrit_server::tls::TlsError;
use agentwrit_server::{Listener, Usage, bind};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{self, Store};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};

use crate::backoff::Backoff;
use crate::config::Config;
use crate::http::ops::{self, Readiness};
use crate::http::{Routes, listeners};
use crate::leader::broker_sync::BrokerSync;
use crate::leader::denials::DenialReporter;
use crate::leader::duties;
use crate::leader::leadership::Leadership;
use crate::leader::lease::Elector;
use crate::metrics::Metrics;
use crate::pki::authority::{Authority, LEAF_LIFE, not_after};
use crate::pki::ca_bundle;
use crate::pki::ca_distribution::{self, CaBundles};
use crate::pki::config_maps::ConfigMaps;
use crate::pki::secrets::{Secrets, service_names};
use crate::pod_end::{self, Comparer, KnownPods, PodEndReporter, SilentPodReporter, SilentPods};
use crate::policy_client::PolicyClient;
use crate::reconcile::Context;
use crate::reconcile::policy_resource::Caches;
use crate::reconcile::queue::{self, Queue, Requests};
use crate::reconcile::watches;
use crate::report::{Categorised, Category, Reporter};
use crate::webhook::tls::{Leaf, WebhookTls};
use crate::webhook::{self, SidecarSettings, Webhook};

/// Between two attempts to have the CA at the start.
const CA_RETRY: Duration = Duration::from_secs(2);
/// The webhook goes on this long after a stop: the API server may still have its address.
const LINGER: Duration = Duration::from_secs(3);
/// Answers of the broker about 10,000 policies and pods fit.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Why the controller can't run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A listener can't be had.
    #[error("can't listen on {address} ({what})")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// For what.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The broker's URL isn't usable.
    #[error("AGENTWRIT_BROKER_URL isn't usable")]
    Broker(#[from] ConfigError),
    /// The metrics can't be registered.
    #[error("the metrics can't be registered")]
    Metrics(#[from] prometheus::Error),
    /// The file with the CA of webhook clients can't be used.
    #[error("AGENTWRIT_WEBHOOK_CLIENT_CA")]
    ClientCa(#[from] TlsError),
    /// A certificate that we made ourselves isn't usable.
    #[error("the webhook's certificate isn't usable: {0}")]
    Certificate(String),
    /// A part that runs for ever ended, mostly by a panic; the process restarts rather than going on without it.
    #[error("a part of the controller ended by itself: {0}")]
    PartEnded(String),
}

impl Categorised for RunError {
    fn category(&self) -> Category {
        match self {
            Self::Listen { .. } | Self::Metrics(_) => Category::Listener,
            Self::Broker(_) => Category::Broker,
            Self::Certificate(_) | Self::ClientCa(_) => Category::Pki,
            Self::PartEnded(_) => Category::Internal,
        }
    }
}

/// What comes from outside.
#[derive(Clone)]
pub struct System {
    /// The API server.
    pub client: Client,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

impl std::fmt::Debug for System {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("System").finish_non_exhaustive()
    }
}

/// Where the controller listens, once it does.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// The webhook.
    pub webhook: SocketAddr,
    /// `/livez`, `/readyz`, `/metrics`.
    pub ops: SocketAddr,
}

/// Runs the controller until `stop` resolves. `listening` hears the addresses once both listeners are there.
///
/// # Errors
/// When the configuration isn't usable or an address can't be had; everything else is tried again for ever.
pub async fn run(
    config: Config,
    system: System,
    listening: oneshot::Sender<Addresses>,
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let metrics = Arc::new(Metrics::new()?);
    let reporter = Reporter::new(
        system.client.clone(),
        &config.namespace,
        &config.pod_name,
        Arc::clone(&metrics),
    );
    let readiness = Arc::new(Readiness::default());
    let mut tasks = JoinSet::new();
    let mut stop = std::pin::pin!(stop);

    let ops = Listener::new(listen("ops", config.ops_address)?, listeners::ops(), None);
    let ops_address = address_of("ops", &ops, config.ops_address)?;
    let mut usages = vec![("ops", ops.usage())];
    let routes = ops::router(Arc::clone(&readiness), Arc::clone(&metrics));
    tasks.spawn(listeners::serve(ops, Routes::new(routes, listeners::MAX_OPS_BODY)));

    let secrets = Secrets::new(system.client.clone(), &config.namespace);
    let authority = tokio::select! {
        authority = wait_for_authority(&secrets, system.clock.as_ref(), &reporter) => Arc::new(authority),
        () = &mut stop => return Ok(()),
    };
    metrics
        .ca_not_after
        .set(not_after(authority.certificate()).unwrap_or_default());

    let (elector, leadership) = Elector::new(
        system.client.clone(),
        &config.namespace,
        &config.pod_name,
        Arc::clone(&system.clock),
        reporter.clone(),
        Arc::clone(&metrics),
    );
    let broker = broker_client(&config, &authority)?;
    let shared = Shared {
        broker: Arc::new(PolicyClient::new(broker, leadership.clone(), Arc::clone(&metrics))),
        system,
        metrics,
        reporter,
        leadership,
        authority,
        readiness,
    };
    // The elector is stopped by itself, so that it can give the Lease back.
    let (stop_elector, elector_stopped) = oneshot::channel::<()>();
    let mut elector = tokio::spawn(elector.run(async move { drop(elector_stopped.await) }));

    let (namespaces, namespaces_writer) = reflector::store();
    let (applied, namespaces_applied) = watch::channel(());
    tasks.spawn(watches::namespaces(
        shared.system.client.clone(),
        namespaces_writer,
        applied,
        Arc::clone(&shared.metrics),
    ));
    let caches = spawn_reconcilers(&mut tasks, &shared, &config, namespaces.clone());
    let namespaces = webhook::Namespaces::new(namespaces, namespaces_applied);
    let webhook = serve_webhook(&mut tasks, &shared, &config, namespaces, caches, &mut usages)?;
    shared.metrics.register_listeners(usages)?;
    tasks.spawn(duties::keep_keys(
        shared.system.client.clone(),
        secrets,
        Arc::clone(&shared.authority),
        shared.leadership.clone(),
        (Arc::clone(&shared.system.clock), Arc::clone(&shared.system.entropy)),
        shared.reporter.clone(),
    ));
    let addresses = Addresses {
        webhook,
        ops: ops_address,
    };
    // The receiver may be gone: not every caller waits for the addresses.
    let _ = listening.send(addresses);
    tracing::info!(webhook = %addresses.webhook, ops = %addresses.ops, "listening");

    tokio::select! {
        () = &mut stop => {}
        ended = tasks.join_next() => return Err(part_ended(ended.unwrap_or(Ok(())))),
        ended = &mut elector => return Err(part_ended(ended)),
    }
    tracing::info!("stopping");
    drop(stop_elector);
    // A failed task has been logged by itself.
    let _ = elector.await;
    tokio::time::sleep(LINGER).await;
    tasks.shutdown().await;
    Ok(())
}

fn part_ended(ended: Result<(), JoinError>) -> RunError {
    RunError::PartEnded(
        ended
            .err()
            .map_or_else(|| "it returned".to_owned(), |error| error.to_string()),
    )
}

/// What most parts need.
struct Shared {
    system: System,
    metrics: Arc<Metrics>,
    reporter: Reporter,
    leadership: Leadership,
    broker: Arc<PolicyClient>,
    authority: Arc<Authority>,
    readiness: Arc<Readiness>,
}

/// Starts the webhook, and what renews its certificate.
fn serve_webhook(
    tasks: &mut JoinSet<()>,
    shared: &Shared,
    config: &Config,
    namespaces: webhook::Namespaces,
    caches: Caches,
    usages: &mut Vec<(&'static str, Usage)>,
) -> Result<SocketAddr, RunError> {
    let webhook = Webhook::new(
        SidecarSettings::from(config),
        config.namespace.clone(),
        namespaces,
        caches.launch_tokens,
        Arc::clone(&shared.system.clock),
        Arc::clone(&shared.metrics),
    );
    let leaf = Arc::new(Leaf::default());
    let mut names = service_names("agentwrit-controller", &config.namespace);
    names.extend(config.webhook_names.iter().filter(|name| !name.is_empty()).cloned());
    renew_leaf(&leaf, &shared.authority, &names, shared.system.clock.as_ref()).map_err(RunError::Certificate)?;
    let tls = Arc::new(WebhookTls::load(Arc::clone(&leaf), config.webhook_client_ca.clone())?);
    let socket = listen("webhook", config.webhook_address)?;
    let listener = Listener::new(socket, listeners::webhook(), Some(tls.clone()));
    let address = address_of("webhook", &listener, config.webhook_address)?;
    usages.push(("webhook", listener.usage()));
    let routes = Routes::new(webhook::router(Arc::new(webhook)), webhook::MAX_BODY);
    tasks.spawn(listeners::serve(listener, routes));
    tasks.spawn(follow_client_ca(tls));
    shared.readiness.certificate();
    tasks.spawn(await_bundle(
        shared.system.client.clone(),
        Arc::clone(&shared.authority),
        Arc::clone(&shared.readiness),
        shared.reporter.clone(),
    ));
    tasks.spawn(keep_leaf(
        leaf,
        Arc::clone(&shared.authority),
        names,
        Arc::clone(&shared.system.clock),
    ));
    Ok(address)
}

/// Says once that the API server believes the webhook; every replica refreshes for itself, the leader writes. Until
/// then a pod made right after the installation would be refused.
async fn await_bundle(client: Client, authority: Arc<Authority>, readiness: Arc<Readiness>, reporter: Reporter) {
    loop {
        match ca_bundle::holds(&client, authority.certificate()).await {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => {
                let doing = "reading caBundle";
                reporter.own_recurring(doing, "CABundleNotRead", &error).await;
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    readiness.ca_bundle();
    std::future::pending::<()>().await;
}

/// Starts the watches of custom resources and pods, and all that follows from them.
fn spawn_reconcilers(
    tasks: &mut JoinSet<()>,
    shared: &Shared,
    config: &Config,
    namespaces: Store<PartialObjectMeta<Namespace>>,
) -> Caches {
    let client = || shared.system.client.clone();
    let metrics = || Arc::clone(&shared.metrics);
    let (apps, apps_writer) = reflector::store::<DeserializeGuard<AgentApp>>();
    let (launch_tokens, tokens_writer) = reflector::store::<DeserializeGuard<LaunchToken>>();
    let caches = Caches { apps, launch_tokens };
    let (app_queue, app_requests) = Queue::new();
    let (token_queue, token_requests) = Queue::new();
    let (ca_events, ca_event_receiver) = mpsc::unbounded_channel();
    let (suspected_ends, suspected) = pod_end::suspected_ends();
    let (known_pods, silent) = (Arc::new(KnownPods::default()), Arc::new(SilentPods::new(metrics())));
    let (brokers_pods, refreshes) = watch::channel(None);

    let queues = (app_queue.clone(), token_queue.clone());
    tasks.spawn(watches::apps(client(), apps_writer, caches.clone(), queues, metrics()));
    tasks.spawn(watches::launch_tokens(
        client(),
        tokens_writer,
        caches.clone(),
        token_queue.clone(),
        ca_events.clone(),
        metrics(),
    ));
    tasks.spawn(pod_end::watch(
        client(),
        Arc::clone(&known_pods),
        Arc::clone(&silent),
        suspected_ends,
        ca_events.clone(),
        metrics(),
    ));
    tasks.spawn(watches::ca_config_maps(client(), ca_events, metrics()));
    let bundles = spawn_ca(tasks, shared, config, &caches, &token_queue, ca_event_receiver);
    tasks.spawn(
        DenialReporter {
            client: client(),
            broker: Arc::clone(&shared.broker),
            leadership: shared.leadership.clone(),
            reporter: shared.reporter.clone(),
            clock: Arc::clone(&shared.system.clock),
            metrics: metrics(),
            silent: Arc::clone(&silent),
        }
        .run(),
    );
    let silent_reporter = SilentPodReporter {
        client: client(),
        leadership: shared.leadership.clone(),
        silent,
        reporter: shared.reporter.clone(),
        clock: Arc::clone(&shared.system.clock),
        broker_url: config.broker_url.clone(),
    };
    tasks.spawn(silent_reporter.run(refreshes.clone()));
    let end_reporter = Arc::new(PodEndReporter::new(
        client(),
        Arc::clone(&shared.broker),
        shared.leadership.clone(),
        known_pods,
        shared.reporter.clone(),
        metrics(),
    ));
    tasks.spawn(Arc::clone(&end_reporter).run(suspected));
    tasks.spawn(Comparer::new(end_reporter).run(refreshes));
    let broker_sync = BrokerSync {
        client: client(),
        broker: Arc::clone(&shared.broker),
        leadership: shared.leadership.clone(),
        caches: caches.clone(),
        apps: app_queue,
        launch_tokens: token_queue,
        brokers_pods,
        reporter: shared.reporter.clone(),
    };
    let context = Arc::new(Context {
        client: client(),
        broker: Arc::clone(&shared.broker),
        caches: caches.clone(),
        reporter: shared.reporter.clone(),
        clock: Arc::clone(&shared.system.clock),
        metrics: metrics(),
        leadership: shared.leadership.clone(),
        bundles,
        issuer: config.broker_url.clone(),
        backoff: Backoff::default(),
    });
    let (known, readiness) = (caches.clone(), Arc::clone(&shared.readiness));
    tasks.spawn(async move {
        // This task alone waits for the caches: of two that wait for one, kube's Store wakes only one.
        let all_known = async {
            namespaces.wait_until_ready().await?;
            known.apps.wait_until_ready().await?;
            known.launch_tokens.wait_until_ready().await
        };
        if all_known.await.is_err() {
            return;
        }
        readiness.caches();
        tracing::info!("namespaces, AgentApps and LaunchTokens are known");
        reconcile_all(known, broker_sync, context, app_requests, token_requests).await;
    });
    caches
}

/// Starts what keeps the CA `ConfigMap`s; answers what it finds.
fn spawn_ca(
    tasks: &mut JoinSet<()>,
    shared: &Shared,
    config: &Config,
    caches: &Caches,
    queue: &Queue<LaunchToken>,
    ca_events: mpsc::UnboundedReceiver<ca_distribution::CaEvent>,
) -> CaBundles {
    let bundles = CaBundles::default();
    let (reporter, certificate) = (shared.reporter.clone(), shared.authority.certificate());
    let config_maps = ConfigMaps::new(shared.system.client.clone(), reporter, certificate);
    let (caches, queue) = (caches.clone(), queue.clone());
    tasks.spawn(ca_distribution::keep(
        config_maps,
        config.namespace.clone(),
        ca_events,
        shared.leadership.clone(),
        bundles.clone(),
        move |namespace| {
            for token in caches.launch_tokens_in(namespace) {
                queue.add(token);
            }
        },
    ));
    bundles
}

/// Refreshes the broker's list and works off the queues, once the caches are known: nothing is decided on half a picture.
/// Runs for ever.
async fn reconcile_all(
    caches: Caches,
    broker_sync: BrokerSync,
    context: Arc<Context>,
    apps: Requests<AgentApp>,
    launch_tokens: Requests<LaunchToken>,
) {
    let mut refreshes = context.broker.refreshes();
    let working = async {
        // The first refresh shows what the broker holds already, and whether it answers.
        if refreshes.changed().await.is_ok() {
            tokio::join!(
                queue::work(caches.apps.clone(), apps, Arc::clone(&context)),
                queue::work(caches.launch_tokens.clone(), launch_tokens, context),
            );
        }
    };
    tokio::join!(broker_sync.run(), working);
}

fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, RunError> {
    bind(address).map_err(|source| RunError::Listen { address, what, source })
}

fn address_of(what: &'static str, listener: &Listener, address: SocketAddr) -> Result<SocketAddr, RunError> {
    let found = listener.address();
    found.map_err(|source| RunError::Listen { address, what, source })
}

async fn wait_for_authority(secrets: &Secrets, clock: &dyn Clock, reporter: &Reporter) -> Authority {
    loop {
        match secrets.authority(clock).await {
            Ok(authority) => return authority,
            Err(error) => reporter.own_recurring("reading the CA", "CANotRead", &error).await,
        }
        tokio::time::sleep(CA_RETRY).await;
    }
}

fn broker_client(config: &Config, authority: &Authority) -> Result<BrokerClient, ConfigError> {
    let trust = if config.broker_url.starts_with("https:") {
        Trust::Pem(authority.certificate().as_bytes().to_vec())
    } else {
        Trust::None
    };
    BrokerClient::new(ClientConfig {
        trust,
        identity: Some(Identity::File(config.identity_token_file.clone())),
        max_response_bytes: MAX_ANSWER,
        max_idle_connections: 16,
        user_agent: concat!("agentwrit-controller/", env!("CARGO_PKG_VERSION")).to_owned(),
        ..ClientConfig::new(&config.broker_url)
    })
}

fn renew_leaf(leaf: &Leaf, authority: &Authority, names: &[String], clock: &dyn Clock) -> Result<(), String> {
    let pair = authority
        .issue(names, clock.now())
        .map_err(|error| agentwrit_client::error_chain(&error))?;
    leaf.set(&pair)
}

/// Reads the file with the CA of webhook clients again each minute, for ever.
async fn follow_client_ca(tls: Arc<WebhookTls>) {
    loop {
        tokio::time::sleep(Duration::from_mins(1)).await;
        match tls.refresh() {
            Ok(true) => tracing::info!("the CA of webhook clients has changed"),
            Ok(false) => {}
            Err(error) => {
                let error = agentwrit_client::error_chain(&error);
                tracing::error!(error, "keeping the last good CA of webhook clients");
            }
        }
    }
}

/// Replaces the webhook's leaf after two thirds of its life; runs for ever.
async fn keep_leaf(leaf: Arc<Leaf>, authority: Arc<Authority>, names: Vec<String>, clock: Arc<dyn Clock>) {
    let mut made = clock.now();
    loop {
        // Short, because a suspended machine's timers stand still while its wall clock goes on.
        tokio::time::sleep(Duration::from_mins(10)).await;
        if clock.now() - made < LEAF_LIFE * 2 / 3 {
            continue;
        }
        match renew_leaf(&leaf, &authority, &names, clock.as_ref()) {
            Ok(()) => {
                made = clock.now();
                tracing::info!("renewed the webhook's certificate");
            }
            Err(error) => tracing::error!(error, "renewing the webhook's certificate failed"),
        }
    }
}
