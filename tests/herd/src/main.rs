//! `bench-herd`: many sidecars in simulated time, and what arrives when their broker comes back. See
//! `docs/performance.md`.

use std::io::Write;
use std::process::ExitCode;

use agentwrit_herd::{Scenario, json, run, text};
use clap::Parser;

/// Simulates many sidecars around an outage of their broker, and shows what arrives at it.
#[derive(Debug, Parser)]
#[command(name = "bench-herd", version)]
struct Options {
    /// What to simulate: outage, ttl-60, ttl-900, ttl-3600, store, busy, rollout, node-pool,
    /// cold, cold-60; all when none is named.
    scenarios: Vec<String>,
    /// How many pods.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pods: u32,
    /// Of all randomness.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON, with every second, instead of text.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match report(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // Nobody to tell is no reason for another end.
            let _ = writeln!(std::io::stderr(), "bench-herd: {problem}");
            ExitCode::from(2)
        }
    }
}

fn report(options: &Options) -> Result<(), String> {
    let scenarios = if options.scenarios.is_empty() {
        Scenario::all(options.pods)
    } else {
        let named = |name: &String| {
            Scenario::named(name, options.pods)
                .ok_or_else(|| format!("there is no scenario {name:?}; bench-herd --help names them"))
        };
        options.scenarios.iter().map(named).collect::<Result<_, _>>()?
    };
    let mut out = std::io::stdout().lock();
    let mut documents = Vec::new();
    for scenario in scenarios {
        let seed = options.seed;
        let run = run(&Scenario { seed, ..scenario });
        if options.json {
            documents.push(json(&run));
        } else {
            writeln!(out, "{}", text(&run)).map_err(|error| error.to_string())?;
        }
    }
    if options.json {
        writeln!(out, "{}", serde_json::Value::from(documents)).map_err(|error| error.to_string())?;
    }
    Ok(())
}
