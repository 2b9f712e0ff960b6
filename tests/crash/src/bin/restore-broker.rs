//! `restore-broker`: backups that are put back. See `scripts/restore.sh`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use agentwrit_crash::program::end;
use agentwrit_crash::restore::{Pods, copies, pods};
use agentwrit_crash::run::{Options, Summary};
use agentwrit_crash::store::Kind;
use agentwrit_testkit::load::failure::Result;
use agentwrit_testkit::load::moment;
use clap::Parser;

/// Copies a broker's store under load, kills the broker, puts the copy back, and has pods register again.
#[derive(Parser)]
#[command(name = "restore-broker", version)]
struct Cli {
    /// The broker's program.
    #[arg(long)]
    broker: PathBuf,
    /// A new folder, for the stores.
    #[arg(long)]
    folder: PathBuf,
    /// Where the broker's store is. Only a file has copies that are put back without being declared.
    #[arg(long, value_enum, default_value = "sqlite")]
    store: Kind,
    /// Pods that have to have tokens again.
    #[arg(long, default_value_t = 10_000)]
    agents: usize,
    /// How many times faster their time goes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60))]
    pace: u32,
    /// Repeats the choices of an earlier run; not its timing.
    #[arg(long)]
    seed: Option<u64>,
}

fn say(text: &str) {
    // Nobody to tell is no reason to stop.
    let _ = writeln!(std::io::stdout(), "restore: {text}");
}

async fn run(cli: Cli) -> Result<Summary> {
    let options = Options {
        program: cli.broker,
        folder: cli.folder,
        rounds: 1,
        store: cli.store,
        seed: cli.seed.unwrap_or_else(|| moment::unix().as_secs()),
    };
    say(&format!("seed {}", options.seed));
    let of_copies = match cli.store {
        Kind::Sqlite => copies(&options, &say).await?,
        Kind::Postgres => Summary::default(),
    };
    let (agents, pace) = (cli.agents, cli.pace);
    let of_pods = pods(&options, Pods { agents, pace }, &say).await?;
    Ok(Summary {
        passed: of_copies.passed + of_pods.passed,
        failed: of_copies.failed + of_pods.failed,
    })
}

fn main() -> ExitCode {
    end(&say, run(Cli::parse()))
}
