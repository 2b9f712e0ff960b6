//! Entry point.

use std::process::ExitCode;

use agentwrit_demo::{client, service};
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// A protected service, and a client that knows only a token file.
#[derive(Parser)]
#[command(name = "agentwrit-demo", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve orders to callers whose token allows it; tokens are checked offline.
    Service(service::Settings),
    /// Call the service again and again with the token of this pod.
    Client(client::Settings),
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_target(false)
        .init();
    // Only fails when a provider is installed already, and then it is this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no async runtime");
            return ExitCode::FAILURE;
        }
    };
    let outcome = match Cli::parse().command {
        Command::Service(settings) => runtime.block_on(service::run(settings)).map_err(|e| e.to_string()),
        Command::Client(settings) => runtime.block_on(client::run(settings)).map_err(|e| e.to_string()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
