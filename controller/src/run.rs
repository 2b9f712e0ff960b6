//! Puts the parts together and runs them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_client::{BrokerClient, ClientConfig, ConfigError, Identity, Trust as BrokerTrust};
use agentwrit_protocol::{Clock, Entropy};
use kube::Client;
use kube::runtime::reflector;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};

use crate::config::{Certificates, Config};
use crate::context::Parts;
use crate::credentials;
use crate::ending_namespaces::EndingNamespaces;
use crate::http::Routes;
use crate::http::listeners::{self, ListenError};
use crate::http::ops::{self, Readiness};
use crate::leader;
use crate::leader::guard::guarded;
use crate::leader::leadership::Leadership;
use crate::leader::lease::Elector;
use crate::metrics::Metrics;
use crate::pki;
use crate::pki::ca_distribution::CaEvents;
use crate::pki::ca_keeper::CaKeeper;
use crate::pki::ca_reach::Reach;
use crate::pki::issued::keeper::{IssuedKeeper, Sources};
use crate::pki::issued::replicas::Replicas;
use crate::pki::keeper::Keeper;
use crate::pki::patience::Patience;
use crate::pki::secrets::{Secrets, service_names};
use crate::pki::trust::Trust;
use crate::pod_end;
use crate::policy_client::PolicyClient;
use crate::reconcile;
use crate::report::Reporter;
use crate::webhook::{self, ServeError};

/// The webhook goes on this long after a stop: the API server may still have its address.
const WEBHOOK_LINGER: Duration = Duration::from_secs(3);
/// Answers of the broker about 10,000 policies and pods fit.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Why the controller can't run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A listener can't be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The webhook can't be served.
    #[error(transparent)]
    Webhook(#[from] ServeError),
    /// The broker's URL isn't usable.
    #[error("AGENTWRIT_BROKER_URL isn't usable")]
    Broker(#[from] ConfigError),
    /// The metrics can't be registered.
    #[error("the metrics can't be registered")]
    Metrics(#[from] prometheus::Error),
    /// A part that runs for ever ended, mostly by a panic; the process restarts rather than going on without it.
    #[error("a task of the controller ended unexpectedly: {0}")]
    PartEnded(String),
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

    let (ops, ops_address) = listeners::listen("ops", config.ops_address, listeners::ops(), None)?;
    let mut usages = vec![("ops", ops.usage())];
    let routes = ops::router(Arc::clone(&readiness), Arc::clone(&metrics));
    tasks.spawn(listeners::serve(ops, Routes::new(routes, listeners::MAX_OPS_BODY)));

    let (elector, leadership) = Elector::new(
        system.client.clone(),
        &config.namespace,
        &config.pod_name,
        Arc::clone(&system.clock),
        reporter.clone(),
        Arc::clone(&metrics),
    );
    let elector = elector.lasting(config.lease_duration);
    let (namespaces, namespaces_writer) = reflector::store();
    let ending = EndingNamespaces::among(namespaces.clone());
    let writer = guarded(&system.client, &leadership, &ending);
    let reporter = reporter.writing_by(writer.clone());
    // The elector is stopped by itself, so that it can give the Lease back.
    let (stop_elector, elector_stopped) = oneshot::channel::<()>();
    let mut elector = tokio::spawn(elector.run(async move { drop(elector_stopped.await) }));

    let secrets = Secrets::new(writer.clone(), &config.namespace);
    let (ca_events, ca_event_receiver) = mpsc::unbounded_channel();
    let mut keeper = keeper(
        &config,
        &system,
        (&secrets, &writer),
        &ca_events,
        (&leadership, &reporter, &readiness),
    );
    let trust = tokio::select! {
        first = keeper.first() => Trust::new(first),
        () = &mut stop => {
            drop(stop_elector);
            let _ = elector.await;
            return Ok(());
        }
    };
    tasks.spawn(keeper.run(trust.clone(), leadership.clone()));
    let broker = PolicyClient::new(
        broker_client(&config, &trust.now().bundle)?,
        leadership.clone(),
        Arc::clone(&metrics),
    );

    let parts = Parts {
        config,
        client: system.client,
        writer,
        clock: system.clock,
        entropy: system.entropy,
        metrics,
        reporter,
        readiness,
        trust,
        ca_events,
        leadership,
        broker,
        namespaces,
        ending,
    };
    let (context, feeds) = parts.into_context();
    pod_end::spawn(&context, &mut tasks);
    pki::spawn(&context, ca_event_receiver, &mut tasks);
    credentials::spawn(&context, &mut tasks);
    reconcile::spawn(&context, feeds, &mut tasks);
    let webhook = webhook::spawn(&context, namespaces_writer, &mut usages, &mut tasks)?;
    context.metrics.register_listeners(usages)?;
    leader::spawn(&context, secrets, &mut tasks);
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
    tokio::time::sleep(WEBHOOK_LINGER).await;
    tasks.shutdown().await;
    Ok(())
}

/// Who knows what is trusted.
fn keeper(
    config: &Config,
    system: &System,
    (secrets, writer): (&Secrets, &Client),
    events: &CaEvents,
    (leadership, reporter, readiness): (&Leadership, &Reporter, &Arc<Readiness>),
) -> Keeper {
    let reach = Reach::new(system.client.clone(), secrets.clone());
    let patience = Patience::new(reach, events.clone(), reporter.clone());
    let (secrets, leadership, clock) = (secrets.clone(), leadership.clone(), Arc::clone(&system.clock));
    match config.certificates {
        Certificates::Own => {
            let lives = config.lives();
            let keeper = CaKeeper::new((secrets, patience), leadership, clock, reporter.clone(), lives);
            Keeper::Own(Box::new(keeper))
        }
        Certificates::CertManager => {
            let sources = Sources {
                secrets,
                webhook: config.issued_webhook_folder.clone(),
                replicas: Replicas {
                    client: system.client.clone(),
                    namespace: config.namespace.clone(),
                    port: config.webhook_address.port(),
                    name: service_names("agentwrit-controller", &config.namespace).swap_remove(0),
                },
            };
            let parts = (sources, writer.clone(), patience);
            let tells = (reporter.clone(), Arc::clone(readiness));
            let keeper = IssuedKeeper::new(parts, leadership, clock, tells, config.ca_overlap);
            Keeper::Issued(Box::new(keeper))
        }
    }
}

fn part_ended(ended: Result<(), JoinError>) -> RunError {
    RunError::PartEnded(
        ended
            .err()
            .map_or_else(|| "it returned".to_owned(), |error| error.to_string()),
    )
}

fn broker_client(config: &Config, bundle: &str) -> Result<BrokerClient, ConfigError> {
    let trust = if config.broker_url.starts_with("https:") {
        BrokerTrust::Pem(bundle.as_bytes().to_vec())
    } else {
        BrokerTrust::None
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
