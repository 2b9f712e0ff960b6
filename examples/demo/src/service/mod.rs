//! The orders service.

mod http;
mod keys;
mod orders;
mod verify;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use agentwrit_client::{BrokerClient, ClientConfig, ConfigError, Trust};
use agentwrit_protocol::system::SystemClock;
use clap::Args;
use tokio::net::TcpListener;

pub use http::{AppState, router};
pub use keys::{FetchError, KeyCache, KeySource};
pub use verify::{Denial, Expected, Verifier};

use crate::stop::stopped;

/// Settings of the service.
#[derive(Debug, Args)]
pub struct Settings {
    /// Where to listen, plain HTTP. Serve TLS, or sit behind a mesh, where others can listen on the wire.
    #[arg(long, env = "DEMO_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// The broker, for its public keys only.
    #[arg(long, env = "DEMO_BROKER_URL")]
    pub broker_url: String,
    /// The CA that signed the broker's certificate, PEM.
    #[arg(long, env = "DEMO_CA_FILE")]
    pub ca_file: PathBuf,
    /// The claim `iss` that tokens must have; the broker's `AA_ISSUER`, empty when it has none.
    #[arg(long, env = "DEMO_ISSUER", default_value = "")]
    pub issuer: String,
    /// An audience that tokens must name; the broker's `AA_AUDIENCE`. Not checked when absent.
    #[arg(long, env = "DEMO_AUDIENCE")]
    pub audience: Option<String>,
}

/// Why the service ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker's address or CA can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The listener failed.
    #[error("can't serve on {address}: {source}")]
    Serve {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Serves until SIGTERM.
///
/// # Errors
/// When the settings can't be used or the listener fails.
pub async fn run(settings: Settings) -> Result<(), Error> {
    let broker = BrokerClient::new(ClientConfig {
        trust: Trust::File(settings.ca_file),
        ..ClientConfig::new(settings.broker_url)
    })?;
    let clock = Arc::new(SystemClock);
    let keys = KeyCache::new(Arc::new(broker), clock.clone());
    let expected = Expected {
        issuer: settings.issuer,
        audience: settings.audience,
    };
    let state = AppState::new(Verifier::new(keys, expected, clock));
    let failed = |source| Error::Serve {
        address: settings.listen,
        source,
    };
    let listener = TcpListener::bind(settings.listen).await.map_err(failed)?;
    tracing::info!("serving orders on http://{}", settings.listen);
    axum::serve(listener, router(state))
        .with_graceful_shutdown(stopped().map_err(failed)?)
        .await
        .map_err(failed)
}
