//! `bench-broker`: measures a broker program. See `scripts/bench-broker.sh`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use agentwrit_bench::baseline;
use agentwrit_bench::goals::Operation;
use agentwrit_bench::run::{Options, run};
use agentwrit_testkit::load::failure::{Failure, Result};
use clap::{Parser, Subcommand};

/// Turns of tasks between two looks at the sockets: few, because one task always wants its turn.
const EVENTS_EVERY: u32 = 16;

/// Measures a broker program beside what this machine could do at best.
#[derive(Parser)]
#[command(name = "bench-broker", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure.
    Run(Run),
    /// The process beside the broker that answers an empty route and measures raw rates (started by run).
    #[command(hide = true)]
    StandIn {
        /// A file that is written for the fsync rate.
        scratch: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Store {
    /// A file of one broker.
    Sqlite,
    /// A server of our own, which writes through to the disk.
    Postgres,
}

#[derive(clap::Args)]
struct Run {
    /// The broker's program.
    #[arg(long)]
    broker: PathBuf,
    /// A new folder on the disk that counts; for stores.
    #[arg(long)]
    folder: PathBuf,
    /// Length of each measurement, seconds.
    #[arg(long, env = "BENCH_SECONDS", default_value_t = 5)]
    seconds: u64,
    /// Numbers of clients.
    #[arg(long, env = "BENCH_CLIENTS", value_delimiter = ',', default_value = "1,8,64")]
    clients: Vec<usize>,
    /// Only these operations, and neither starts nor memory.
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Operation>,
    /// The stores: SQLite alone, or replicas on PostgreSQL beside it.
    #[arg(long, value_enum, default_value_t = Store::Sqlite)]
    store: Store,
    /// Numbers of replicas on PostgreSQL.
    #[arg(long, value_delimiter = ',', default_value = "1,2,3", value_parser = clap::value_parser!(u8).range(1..=16))]
    replicas: Vec<u8>,
    /// Only pages of an operation on PostgreSQL: with 1,000 events and with many, with no revocations and with many.
    #[arg(long, conflicts_with_all = ["only", "store"])]
    flat: bool,
    /// How many are many, for --flat.
    #[arg(long, default_value_t = 1_000_000)]
    many: usize,
    /// Print JSON instead of the table.
    #[arg(long)]
    json: bool,
}

async fn measure(arguments: Run) -> Result<()> {
    let options = Options {
        program: arguments.broker,
        folder: arguments.folder,
        length: Duration::from_secs(arguments.seconds.max(1)),
        clients: arguments.clients,
        surroundings: arguments.only.is_empty(),
        only: arguments.only,
        replicas: match arguments.store {
            Store::Sqlite => vec![],
            Store::Postgres => arguments.replicas.into_iter().map(usize::from).collect(),
        },
        flat: arguments.flat,
        many: arguments.many,
    };
    let progress = |text: &str| {
        // Nobody to tell is no reason to stop.
        let _ = writeln!(std::io::stderr(), "bench-broker: {text}");
    };
    let report = run(options, &progress).await?;
    let text = if arguments.json {
        serde_json::to_string_pretty(&report).map_err(|error| Failure::Broker(format!("report: {error}")))?
    } else {
        report.text()
    };
    writeln!(std::io::stdout(), "{text}").map_err(Failure::system("print the report"))
}

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENTS_EVERY)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string()),
    };
    let outcome = match Cli::parse().command {
        Command::Run(arguments) => runtime.block_on(measure(arguments)),
        Command::StandIn { scratch } => runtime.block_on(baseline::serve(scratch)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(text: &str) -> ExitCode {
    // Nowhere else to complain.
    let _ = writeln!(std::io::stderr(), "bench-broker: {text}");
    ExitCode::FAILURE
}
