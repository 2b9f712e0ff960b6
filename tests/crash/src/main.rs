//! `crash-broker`: kill -9 under load. See `scripts/crash.sh`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use agentwrit_crash::program::end;
use agentwrit_crash::run::{Options, Summary, rounds, self_test};
use agentwrit_crash::store::Kind;
use agentwrit_testkit::load::failure::Result;
use agentwrit_testkit::load::moment;
use clap::Parser;

/// Kills a broker under load, again and again, and checks that what it had acknowledged is still so.
#[derive(Parser)]
#[command(name = "crash-broker", version)]
struct Cli {
    /// The broker's program.
    #[arg(long)]
    broker: PathBuf,
    /// A new folder, for the stores.
    #[arg(long)]
    folder: PathBuf,
    /// How often the broker is killed.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Repeats the choices of an earlier run; not its timing.
    #[arg(long)]
    seed: Option<u64>,
    /// Which store the broker has.
    #[arg(long, value_enum, default_value = "sqlite")]
    store: Kind,
    /// Only the proof that the check finds losses.
    #[arg(long)]
    self_test: bool,
}

fn say(text: &str) {
    // Nobody to tell is no reason to stop.
    let _ = writeln!(std::io::stdout(), "crash: {text}");
}

async fn run(cli: Cli) -> Result<Summary> {
    let options = Options {
        program: cli.broker,
        folder: cli.folder,
        rounds: cli.rounds,
        store: cli.store,
        seed: cli.seed.unwrap_or_else(|| moment::unix().as_secs()),
    };
    say(&format!("seed {}", options.seed));
    if cli.self_test {
        self_test(&options, &say).await
    } else {
        rounds(&options, &say).await
    }
}

fn main() -> ExitCode {
    end(&say, run(Cli::parse()))
}
