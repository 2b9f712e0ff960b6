//! `awrit completions` and `awrit man`: what is generated from the definition of the commands.

use std::io::Write;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::shells;
use clap_mangen::roff::{Roff, roman};

use crate::args::{Cli, CompletionsArgs, ManArgs, Shell};
use crate::error::CliError;
use crate::session::Context;

pub(super) fn completions(args: &CompletionsArgs, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let mut script = Vec::new();
    let mut command = Cli::command();
    match args.shell {
        Shell::Bash => clap_complete::generate(shells::Bash, &mut command, "awrit", &mut script),
        Shell::Zsh => clap_complete::generate(shells::Zsh, &mut command, "awrit", &mut script),
        Shell::Fish => clap_complete::generate(shells::Fish, &mut command, "awrit", &mut script),
    }
    context.output.text(&String::from_utf8_lossy(&script))?;
    Ok(())
}

pub(super) fn pages(args: &ManArgs, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let unusable = |path: &Path, error: &std::io::Error| CliError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    std::fs::create_dir_all(&args.dir).map_err(|error| unusable(&args.dir, &error))?;
    let commands = commands();
    let count = commands.len();
    for command in commands {
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let page = clap_mangen::Man::new(command.after_help(None::<&str>))
            .source(concat!("awrit ", env!("CARGO_PKG_VERSION")))
            .manual("AgentWrit");
        let path = args.dir.join(page.get_filename());
        let mut text = Vec::new();
        page.render(&mut text)
            .and_then(|()| text.write_all(sections(&after).to_roff().as_bytes()))
            .and_then(|()| std::fs::write(&path, &text))
            .map_err(|error| unusable(&path, &error))?;
    }
    context
        .output
        .note(&format!("Wrote {count} pages to {}", args.dir.display()))?;
    Ok(())
}

/// What follows the options in the help, as sections: its lists keep their lines, its sentences don't.
fn sections(after: &str) -> Roff {
    let mut roff = Roff::default();
    let mut notes = false;
    for paragraph in after.split("\n\n") {
        let (heading, list) = match paragraph.split_once('\n') {
            Some(("Example:" | "Examples:", list)) => ("EXAMPLES", list),
            Some(("Environment:", list)) => ("ENVIRONMENT", list),
            _ => {
                roff.control(if notes { "PP" } else { "SH" }, (!notes).then_some("NOTES"));
                notes = true;
                for line in paragraph.lines() {
                    roff.text([roman(line)]);
                }
                continue;
            }
        };
        notes = false;
        roff.control("SH", [heading]).control("nf", []);
        for line in list.lines() {
            roff.text([roman(line.trim_start())]);
        }
        roff.control("fi", []);
    }
    roff
}

/// Every command, in the order of the help; its display name is the whole one, such as `awrit-audit-verify`.
pub(crate) fn commands() -> Vec<clap::Command> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut found = Vec::new();
    gather(&root, &mut found);
    found
}

fn gather(command: &clap::Command, found: &mut Vec<clap::Command>) {
    found.push(command.clone());
    for inner in command.get_subcommands() {
        gather(inner, found);
    }
}
