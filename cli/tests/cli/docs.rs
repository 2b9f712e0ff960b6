//! What is generated from the commands: the page, the manual, the completions.

use std::fmt::Write;
use std::path::Path;

use super::brokers::RealBroker;
use super::support::awrit;

const BEGIN: &str = "<!-- commands:begin -->\n";
const END: &str = "<!-- commands:end -->\n";

fn help(command: &[String]) -> String {
    let arguments: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
    let ended = awrit(&[], &arguments);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{arguments:?}");
    ended.out
}

/// The command and those below it, in the order of the help.
fn commands(command: &[String], found: &mut Vec<Vec<String>>) {
    found.push(command.to_vec());
    let text = help(command);
    let Some((_, list)) = text.split_once("\nCommands:\n") else {
        return;
    };
    for line in list.lines().take_while(|line| !line.is_empty()) {
        let name = line.split_whitespace().next().unwrap();
        if name != "help" {
            commands(&[command, &[name.to_owned()]].concat(), found);
        }
    }
}

fn all() -> Vec<Vec<String>> {
    let mut found = Vec::new();
    commands(&[], &mut found);
    assert!(found.len() > 20, "{found:?}");
    found
}

/// Without the block of options that every command has.
fn own(text: &str) -> String {
    match text.split_once("Global options:\n") {
        Some((before, global)) => {
            let after = global.split_once("\n\n").map_or("", |(_, after)| after);
            format!("{before}{after}").trim_end().to_owned()
        }
        None => text.trim_end().to_owned(),
    }
}

#[test]
fn the_page_of_commands_is_what_they_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has the begin marker");
    let (_, after) = rest.split_once(END).expect("the page has the end marker");
    let mut section = String::new();
    for command in all() {
        let text = help(&command);
        let text = if command.is_empty() {
            text.trim_end().to_owned()
        } else {
            own(&text)
        };
        let name = [&["awrit".to_owned()], command.as_slice()].concat().join(" ");
        writeln!(section, "## {name}\n\n```text\n{text}\n```\n").unwrap();
    }
    let wanted = format!("{before}{BEGIN}\n{section}{END}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(
        page == wanted,
        "docs/cli.md differs; run UPDATE_DOCS=1 cargo test -p agentwrit-cli --test cli docs"
    );
}

#[test]
fn every_command_has_a_manual_page_with_its_examples() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("man1");
    let commands = all();
    awrit(&[], &["man", "--dir", dir.to_str().unwrap()])
        .printed("", &format!("Wrote {} pages to {}\n", commands.len(), dir.display()));
    for command in commands {
        let name = [&["awrit".to_owned()], command.as_slice()].concat().join("-");
        let page = std::fs::read_to_string(dir.join(format!("{name}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS\n"), "{name}");
        assert_eq!(
            page.contains(".SH EXAMPLES\n"),
            help(&command).contains("\nExample"),
            "{name}"
        );
    }
    let ended = awrit(&[], &["man", "--dir", "/dev/null/man"]);
    assert!(
        ended.code == 1 && ended.err.starts_with("Error: /dev/null/man: "),
        "{ended:?}"
    );
}

#[test]
fn completions_know_the_commands() {
    for (shell, wanted) in [
        ("bash", "complete -F _awrit"),
        ("zsh", "#compdef awrit"),
        ("fish", "complete -c awrit"),
    ] {
        let ended = awrit(&[], &["completions", shell]);
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{shell}");
        assert!(
            ended.out.contains(wanted) && ended.out.contains("from-checkpoint"),
            "{shell}"
        );
    }
    let ended = awrit(&[], &["completions", "tcsh"]);
    assert!(
        ended.code == 1 && ended.err.starts_with("Error: invalid value 'tcsh'"),
        "{ended:?}"
    );
}

#[test]
fn the_version_is_that_of_both_sides_when_there_is_a_broker() {
    let own = env!("CARGO_PKG_VERSION");
    awrit(&[], &["version"]).printed(&format!("FIELD  VALUE\nAWRIT  {own}\n"), "");
    let broker = RealBroker::new();
    let url = [("AACTL_BROKER_URL", broker.url.as_str())];
    let wanted = format!("FIELD     VALUE\nAWRIT     {own}\nBROKER    {own}\nCONTRACT  2.0.0\n");
    awrit(&url, &["version"]).printed(&wanted, "");
    let json = awrit(&url, &["version", "--json"]).json();
    assert_eq!(json["contract"], "2.0.0");
    let ended = awrit(&[("AACTL_BROKER_URL", "http://127.0.0.1:1")], &["version"]);
    assert!(
        ended.code == 0 && ended.err.starts_with("The broker's version is not known: "),
        "{ended:?}"
    );
}
