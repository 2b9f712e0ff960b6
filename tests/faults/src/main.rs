//! `faults`: breaks what replicas on PostgreSQL stand on. See `scripts/faults.sh`.

use std::process::ExitCode;

use agentwrit_faults::command_line::{Cli, run};
use clap::Parser;

fn main() -> ExitCode {
    run(&Cli::parse())
}
