//! What each command does.

mod app;
mod audit;
mod export;
mod keys;
mod manual;
mod pod;
mod revoke;
mod token;
mod version;

use crate::args::{AppCommand, AuditCommand, Command, KeysCommand, PodCommand, TokenCommand};
use crate::audit_verify;
use crate::doctor;
use crate::error::CliError;
use crate::init;
use crate::session::Context;

pub(crate) fn run(command: Command, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    match command {
        Command::Init(args) => init::run(&args, context.environment, context.output),
        Command::App(AppCommand::Register(args)) => app::register(args, context),
        Command::App(AppCommand::List) => app::list(context),
        Command::App(AppCommand::Get(args)) => app::get(&args, context),
        Command::App(AppCommand::Update(args)) => app::update(args, context),
        Command::App(AppCommand::Remove(args)) => app::remove(args, context),
        Command::Revoke(args) => revoke::run(args, context),
        Command::Audit(AuditCommand::Events(args)) => audit::events(*args, context),
        Command::Audit(AuditCommand::Verify(args)) => audit_verify::command::run(args, context),
        Command::Audit(AuditCommand::Export(args)) => export::run(&args, context),
        Command::Keys(KeysCommand::List) => keys::list(context),
        Command::Keys(KeysCommand::Rotate) => keys::rotate(context),
        Command::Keys(KeysCommand::Retire(args)) => keys::retire(args, context),
        Command::Token(TokenCommand::Release(args)) => token::release(args, context),
        Command::Token(TokenCommand::Validate(args)) => token::validate(args, context),
        Command::Pod(PodCommand::Release(args)) => pod::release(&args, context),
        Command::Doctor(args) => doctor::run(&args, context),
        Command::Version => version::run(context),
        Command::Completions(args) => manual::completions(&args, context),
        Command::Man(args) => manual::pages(&args, context),
    }
}

/// A flag's value, unless it is empty: `--name ""` and no `--name` are the same.
fn given(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.is_empty())
}

fn required(value: Option<String>, flag: &str) -> Result<String, CliError> {
    given(value).ok_or_else(|| CliError::Usage(format!("{flag} is required")))
}

/// An id that becomes a segment of a path: escaping can't save `.` and `..`, which proxies and servers resolve.
fn segment(id: String, name: &str) -> Result<String, CliError> {
    match id.as_str() {
        "" => Err(CliError::Usage(format!("{name} is empty"))),
        "." | ".." => Err(CliError::Usage(format!("{name} {id:?} can't be an id"))),
        _ => Ok(id),
    }
}
