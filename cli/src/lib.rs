//! `awrit`, the command line of AgentWrit: what people do to the broker (contract §18).
//!
//! Results go to standard output, notes and errors to standard error; the exit code is 0 or 1. Each command logs in
//! anew, and nothing is kept on disk.
#![deny(missing_docs)]

mod args;
mod commands;
mod doctor;
mod error;
mod init;
mod output;
mod session;
mod verify;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::args::Cli;
use crate::error::CliError;
use crate::output::Output;
use crate::session::Context;

/// Where `awrit` gets the values of environment variables.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Runs one command.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: Environment<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&error, out, err),
    };
    let usage = cli.command.path();
    let Cli { global, command } = cli;
    let mut output = Output::new(global.json(), out, err);
    let mut context = Context {
        global: &global,
        environment,
        output: &mut output,
    };
    match commands::run(command, &mut context) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has what it wanted.
        Err(CliError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when this fails.
            let _ = writeln!(err, "Error: {error}{}", error.advice());
            if let CliError::Usage(_) = error {
                let _ = write!(err, "{}", usage_of(usage));
            }
            ExitCode::FAILURE
        }
    }
}

fn not_parsed(error: &clap::Error, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let text = error.render().to_string();
    let written = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return match write!(out, "{text}") {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            };
        }
        _ => write!(err, "Error: {}", text.strip_prefix("error: ").unwrap_or(&text)),
    };
    drop(written);
    ExitCode::FAILURE
}

/// The usage line of a subcommand and where to read more.
fn usage_of(path: &[&str]) -> String {
    let mut root = Cli::command();
    root.build();
    let mut command = &mut root;
    for name in path {
        match command.find_subcommand_mut(name) {
            Some(found) => command = found,
            None => return String::new(),
        }
    }
    let usage = command.render_usage();
    format!("\n{usage}\n\nFor more, try: awrit {} --help\n", path.join(" "))
}
