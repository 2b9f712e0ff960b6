//! The command line, and what is said meanwhile and at the end.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use agentwrit_testkit::load::moment;
use clap::Parser;

use crate::{Fault, Named, Options, break_it};

/// How long a cut takes in a short run, at most, seconds.
const SHORT_CUT: u64 = 2;

/// Breaks what three replicas on one PostgreSQL stand on, under load, and checks that nothing acknowledged is lost.
#[derive(Debug, Parser)]
#[command(name = "faults", version)]
pub struct Cli {
    /// What to break: one or several; `all` for all of them.
    #[arg(required = true, value_parser = Named::parse)]
    faults: Vec<Named>,
    /// The broker's program.
    #[arg(long)]
    broker: PathBuf,
    /// A new folder, for what belongs to the brokers.
    #[arg(long)]
    folder: PathBuf,
    /// The library that gives a broker a clock of its own, for the fault `clock`.
    #[arg(long)]
    clock: PathBuf,
    /// How often; each fault has a number of its own otherwise.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: Option<u32>,
    /// How long the fault `cut` stalls and cuts connections, seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=120))]
    seconds: u64,
    /// Few rounds and short cuts: what `make test` has time for.
    #[arg(long)]
    short: bool,
    /// One JSON object a fault on standard output; what happens meanwhile goes to standard error.
    #[arg(long)]
    json: bool,
    /// Repeats the choices of an earlier run; not its timing.
    #[arg(long)]
    seed: Option<u64>,
}

fn say(is_json: bool, text: &str) {
    // Nobody to tell is no reason to stop.
    let _ = if is_json {
        writeln!(std::io::stderr(), "faults: {text}")
    } else {
        writeln!(std::io::stdout(), "faults: {text}")
    };
}

impl Cli {
    fn options(&self) -> Options {
        let seconds = if self.short {
            self.seconds.min(SHORT_CUT)
        } else {
            self.seconds
        };
        Options {
            program: self.broker.clone(),
            arguments: vec![],
            folder: self.folder.clone(),
            clock: self.clock.clone(),
            rounds: self.rounds,
            cut: Duration::from_secs(seconds),
            short: self.short,
            seed: self.seed.unwrap_or_else(|| moment::unix().as_secs()),
        }
    }

    /// Each fault once, in the order in which they were named.
    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for fault in self.faults.iter().flat_map(|named| named.each()) {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
        faults
    }
}

/// The whole program.
pub fn run(cli: &Cli) -> ExitCode {
    let is_json = cli.json;
    let progress = move |text: &str| say(is_json, text);
    let options = cli.options();
    progress(&format!("seed {}", options.seed));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            progress(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    let (mut passed, mut failed) = (0, 0);
    for fault in cli.faults() {
        let outcome = runtime.block_on(break_it(fault, &options, &progress));
        progress(&outcome.line());
        for text in &outcome.findings.texts {
            progress(&format!("  {text}"));
        }
        if is_json {
            let _ = writeln!(std::io::stdout(), "{}", outcome.json());
        }
        let count = if outcome.is_good() { &mut passed } else { &mut failed };
        *count += 1;
    }
    progress(&format!("{passed} passed, {failed} failed"));
    if failed == 0 && passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Cli {
        let given = "faults --broker b --folder f --clock c ".to_owned() + line;
        Cli::try_parse_from(given.split(' ')).unwrap()
    }

    #[test]
    fn all_are_named_at_once_and_each_is_done_once() {
        let all = parsed("all cut").faults();
        assert_eq!(all.len(), 11);
        assert_eq!(parsed("cut races cut").faults(), [Fault::Cut, Fault::Races]);
        assert!(Cli::try_parse_from(["faults", "nothing"]).is_err());
    }

    #[test]
    fn a_short_run_has_few_rounds_and_a_short_cut() {
        let (short, long) = (parsed("all --short").options(), parsed("all").options());
        assert!(short.cut < long.cut);
        for fault in Named::All.each() {
            assert!(short.rounds(fault) <= long.rounds(fault), "{}", fault.name());
        }
        assert_eq!(parsed("cut --rounds 7 --short").options().rounds(Fault::Cut), 7);
    }
}
