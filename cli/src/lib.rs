//! `awrit`, the command line of AgentWrit: what people do to the broker (`docs/wire-contract.md` §18).
//!
//! Results go to standard output, notes and errors to standard error; the exit code is 0 or 1. Each command logs in
//! again, and nothing is kept on disk.
#![deny(missing_docs)]

mod args;
mod audit_verify;
mod commands;
mod doctor;
mod error;
mod init;
mod init_error;
mod output;
mod session;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory, FromArgMatches};

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
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let parsed = Cli::command()
        .try_get_matches_from(&arguments)
        .and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, subcommands(&matches))));
    let (cli, path) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return not_parsed(&error, &arguments, out, err),
    };
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
            // There is nowhere left to report a failure of this.
            let usage = usage_of(path.iter().map(OsStr::new));
            let _ = writeln!(err, "Error: {error}{}\n{usage}", error.advice());
            ExitCode::FAILURE
        }
    }
}

/// The names of the subcommand that was given, such as `audit` and `verify`.
fn subcommands(matches: &ArgMatches) -> Vec<String> {
    let mut names = Vec::new();
    let mut matches = matches;
    while let Some((name, inner)) = matches.subcommand() {
        names.push(name.to_owned());
        matches = inner;
    }
    names
}

fn not_parsed(error: &clap::Error, arguments: &[OsString], out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let text = error.render().to_string();
    let written = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return match write!(out, "{text}") {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            };
        }
        _ => {
            // clap writes the message, its hints, the usage and where to find help as one text, and the usage for some
            // errors only: the first two are kept.
            let message = text.strip_prefix("error: ").unwrap_or(&text);
            let message = message.split("\nUsage: ").next().unwrap_or(message);
            let message = message
                .split("\nFor more information")
                .next()
                .unwrap_or(message)
                .trim_end();
            writeln!(
                err,
                "Error: {message}\n{}",
                usage_of(arguments.iter().skip(1).map(OsString::as_os_str))
            )
        }
    };
    drop(written);
    ExitCode::FAILURE
}

/// The usage line of the subcommand that these words lead to.
fn usage_of<'a>(words: impl Iterator<Item = &'a OsStr>) -> String {
    let mut root = Cli::command();
    root.build();
    let mut command = &root;
    for word in words {
        command = command.find_subcommand(word).unwrap_or(command);
    }
    let usage = command.clone().render_usage().to_string();
    usage.lines().next().unwrap_or_default().to_owned()
}
