//! The `agentwrit-controller` binary: reads the configuration, sets up logs, and runs the library.

use std::process::ExitCode;
use std::sync::Arc;

use agentwrit_controller::{Config, LogFormat, System, run};
use agentwrit_protocol::error_chain;
use agentwrit_protocol::system::{SystemClock, SystemEntropy};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    if let Err(error) = logs(&config) {
        clap::Error::raw(
            clap::error::ErrorKind::ValueValidation,
            format!("AGENTWRIT_LOG_LEVEL: {error}\n"),
        )
        .exit();
    }
    match start(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = error_chain(error.as_ref()), "the controller can't run");
            ExitCode::FAILURE
        }
    }
}

async fn start(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    // Another provider can't be there: it is the only one in the program.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let system = System {
        client: kube::Client::try_default().await?,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
    };
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let (listening, _) = oneshot::channel();
    Ok(run(config, system, listening, stop).await?)
}

fn logs(config: &Config) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::try_new(&config.log_level)?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter);
    match config.log_format {
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
        LogFormat::Text => subscriber.init(),
    }
    Ok(())
}
