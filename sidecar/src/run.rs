//! Puts the process together.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_client::{BrokerClient, ClientConfig, ConfigError, Identity, Trust};
use agentwrit_protocol::inject::ENV_BROKER_URL;
use agentwrit_protocol::system::{SystemClock, SystemEntropy};
use agentwrit_protocol::{Clock, Entropy, EntropyError};
use agentwrit_server::bind;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, ConfigErrors};
use crate::http::listener::{Serves, serve};
use crate::key::AgentKey;
use crate::log::{Level, Log, Stdout};
use crate::runtime::Runtime;
use crate::status::Status;

/// Longest time for one answer of the broker.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// No answer that a sidecar asks for is larger.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// Why the sidecar can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The environment is wrong.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// The broker's URL is wrong.
    #[error("{ENV_BROKER_URL}: {0}")]
    Broker(#[from] ConfigError),
    /// A listener's address can't be had.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Signals can't be received.
    #[error("can't receive signals: {0}")]
    Signal(#[source] std::io::Error),
    /// The runtime can't start.
    #[error("can't start the runtime: {0}")]
    Runtime(#[source] std::io::Error),
    /// No key can be made.
    #[error(transparent)]
    Key(#[from] EntropyError),
}

/// Runs the sidecar as the environment says, until SIGTERM.
///
/// # Errors
/// When it can't start; once started, it goes on whatever happens.
pub fn from_environment() -> Result<(), StartError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let log = Log::new(Arc::clone(&clock), Arc::new(Stdout));
    let result = Config::read(|name| std::env::var(name).ok())
        .map_err(StartError::from)
        .and_then(|config| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(StartError::Runtime)?
                .block_on(async {
                    let stop = terminated()?;
                    let listeners = Listeners::bind(&config)?;
                    run(config, listeners, clock, Arc::new(SystemEntropy), log.clone(), stop).await
                })
        });
    if let Err(error) = &result {
        log.write(Level::Warn, &format!("can't start: {error}"));
    }
    result
}

/// Ready at the first SIGTERM or SIGINT.
///
/// # Errors
/// When signals can't be received.
pub fn terminated() -> Result<impl Future<Output = ()>, StartError> {
    let mut term = signal(SignalKind::terminate()).map_err(StartError::Signal)?;
    let mut int = signal(SignalKind::interrupt()).map_err(StartError::Signal)?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

/// The open listeners.
pub struct Listeners {
    /// For the probes.
    pub health: TcpListener,
    /// For the token endpoint, unless it is off.
    pub endpoint: Option<TcpListener>,
}

impl Listeners {
    /// Opens them at their addresses.
    ///
    /// # Errors
    /// Names the address that can't be had.
    pub fn bind(config: &Config) -> Result<Self, StartError> {
        Ok(Self {
            health: listen(config.health)?,
            endpoint: match config.endpoint {
                Some(address) => Some(listen(address)?),
                None => None,
            },
        })
    }
}

/// Runs the sidecar until `stop` is ready and the token is given back.
///
/// # Errors
/// When it can't start.
pub async fn run(
    config: Config,
    listeners: Listeners,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    log: Log,
    stop: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let client = BrokerClient::new(ClientConfig {
        trust: Trust::File(config.ca_file.clone()),
        identity: Some(Identity::File(config.identity_file.clone())),
        timeout: REQUEST_TIMEOUT,
        max_response_bytes: MAX_RESPONSE_BYTES,
        max_idle_connections: 1,
        user_agent: concat!("agentwrit-sidecar/", env!("CARGO_PKG_VERSION")).to_owned(),
        ..ClientConfig::new(config.broker_url.as_str())
    })?;
    let key = AgentKey::generate(entropy.as_ref())?;
    let status = Status::default();
    let mut tasks = vec![tokio::spawn(serve(listeners.health, Serves::Health, status.clone()))];
    if let Some(endpoint) = listeners.endpoint {
        tasks.push(tokio::spawn(serve(endpoint, Serves::Token, status.clone())));
    }
    let text = format!(
        "agentwrit-sidecar {} started: LaunchToken {:?}, broker {}",
        env!("CARGO_PKG_VERSION"),
        config.launch_token,
        config.broker_url
    );
    log.write(Level::Info, &text);
    Runtime::new(config, client, key, clock, entropy, log, status)
        .run(stop)
        .await;
    for task in tasks {
        task.abort();
    }
    Ok(())
}

fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    bind(address).map_err(|source| StartError::Listen { address, source })
}
