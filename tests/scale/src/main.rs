//! `bench-scale`: a controller and a broker with many objects on a real API server. See `scripts/bench-scale.sh`.
//!
//! Times are told beside what the API server takes of a plain client in the same run, and judge nothing. What is
//! counted (requests, writes) must be so on every machine, and decides the exit status.

mod cluster;
mod counts;
mod observer;
mod plain;
mod pods;
mod programs;
mod report;
mod run;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measures a controller and a broker with many objects on the API server that KUBECONFIG names, which has to be new.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench-scale", version)]
struct Options {
    /// The broker's program.
    #[arg(long)]
    broker: PathBuf,
    /// The controller's program.
    #[arg(long)]
    controller: PathBuf,
    /// A new folder for the broker's store and for logs.
    #[arg(long)]
    folder: PathBuf,
    /// How many LaunchTokens.
    #[arg(long, default_value_t = 10_000, value_parser = positive)]
    tokens: usize,
    /// How many AgentApps.
    #[arg(long, default_value_t = 1_000, value_parser = positive)]
    apps: usize,
    /// In how many namespaces.
    #[arg(long, default_value_t = 100, value_parser = positive)]
    namespaces: usize,
    /// How many pods end at once.
    #[arg(long, default_value_t = 1_000, value_parser = positive)]
    pods: usize,
    /// How many changes are timed.
    #[arg(long, default_value_t = 200, value_parser = positive)]
    changes: usize,
    /// For how many comparisons, ten seconds each, nothing is to be written.
    #[arg(long, default_value_t = 6)]
    rest: u64,
    /// Requests of the plain client side by side: as many as the controller's (controller/src/reconcile/queue.rs).
    #[arg(long, default_value_t = 16, value_parser = positive)]
    concurrency: usize,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

fn positive(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("must be a whole number from 1".into()),
    }
}

/// Progress, beside the report.
fn say(text: &str) {
    // Nobody to tell is no reason to stop.
    let _ = writeln!(std::io::stderr(), "bench-scale: {text}");
}

async fn measure(options: Options) -> Result<bool> {
    // Another provider can't be there: it is the only one in the program.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let json = options.json;
    let report = run::run(options).await?;
    let (holds, failed) = report.counts();
    let text = if json {
        serde_json::to_string_pretty(&report)?
    } else {
        report.text()
    };
    writeln!(std::io::stdout(), "{text}")?;
    if !json {
        writeln!(std::io::stdout(), "bench: {holds} passed, {failed} failed")?;
    }
    Ok(failed == 0)
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(measure(options)));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}
