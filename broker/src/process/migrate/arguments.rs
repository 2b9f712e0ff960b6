//! The arguments of `migrate`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use agentwrit_store_postgres::Settings;

const SEE: &str = "see agentwrit-broker migrate --help";

/// The text of `migrate --help`.
pub(in crate::process) const HELP: &str = "\
agentwrit-broker migrate: moves the store from an SQLite file into an empty database on PostgreSQL

Usage: agentwrit-broker migrate --from sqlite:PATH [--to postgres://ROLE@HOST:PORT/DATABASE?OPTION=VALUE&...] [--json]

Everything moves: sessions, revocations, apps, policies, pods, signing keys, and the audit trail byte for byte. Epoch and
tokens stay as they are: with the database named in AA_DATABASE_URL the broker goes on where it stopped.

No broker may run on the file. The role must own the database's tables, or be able to make them. All of it is one
transaction, and is read back and verified before it counts: what is interrupted leaves the database empty. At last the
file gets a note, by which brokers refuse it from then on.

  --from    the file that was in AA_DB_PATH
  --to      the database, without a password, which is read from the file in AA_DATABASE_PASSWORD_FILE; left out: that of
            AA_DATABASE_URL or AA_DATABASE_URL_FILE
  --json    say at the end what was moved as one JSON object
  --help    show this

Progress goes to standard error when it takes more than two seconds. Of the settings, those of the database are read, and
AA_SIGNING_KEY_PATH, beside which a broker notes that it ran on memory.

Exit code: 0 when it was moved, 1 when it wasn't (a line FATAL: says why), 2 for arguments that aren't understood.

Examples:
  AA_DATABASE_PASSWORD_FILE=/etc/agentwrit/database/password agentwrit-broker migrate --from sqlite:/data/data.db \\
    --to 'postgres://agentwrit@db.example.org/agentwrit?sslrootcert=/etc/agentwrit/database-ca.crt'
  AA_DATABASE_URL_FILE=/etc/agentwrit/database/url agentwrit-broker migrate --from sqlite:/data/data.db --json

Before, and the way back: docs/postgres.md";

/// What is to be moved, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::process) struct MigrateTask {
    /// The store's file.
    pub(in crate::process) from: PathBuf,
    /// The URL, without a password; that of the settings when there is none.
    pub(in crate::process) to: Option<String>,
    /// Whether a program reads what comes of it.
    pub(in crate::process) json: bool,
}

/// The task, or that the help is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::process) enum Asked {
    Task(MigrateTask),
    Help,
}

/// Reads the arguments after `migrate`.
///
/// # Errors
/// A line that says what isn't understood; nothing of a URL is in it.
pub(in crate::process) fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Asked, String> {
    let (mut from, mut to, mut json) = (None, None, false);
    while let Some(argument) = arguments.next() {
        let (name, value) = split(&argument);
        let mut value = || value.clone().or_else(|| arguments.next());
        match name.to_str() {
            Some("--from") if from.is_none() => from = Some(file(value())?),
            Some("--to") if to.is_none() => to = Some(database(value())?),
            Some(twice @ ("--from" | "--to")) => return Err(format!("migrate: {twice} is given twice: {SEE}")),
            Some("--json") if name == argument => json = true,
            Some("--help" | "-h") if name == argument => return Ok(Asked::Help),
            // A URL in the wrong place may have a password in it.
            _ if name.as_bytes().starts_with(b"-") => {
                return Err(format!("migrate: unknown argument {:?}: {SEE}", name.to_string_lossy()));
            }
            _ => {
                return Err(format!(
                    "migrate takes --from and --to, and nothing without such a name: {SEE}"
                ));
            }
        }
    }
    match from {
        Some(from) => Ok(Asked::Task(MigrateTask { from, to, json })),
        None => Err(format!(
            "migrate needs --from sqlite:PATH, the file of the broker: {SEE}"
        )),
    }
}

/// `--name=value` in its parts.
fn split(argument: &OsStr) -> (OsString, Option<OsString>) {
    let bytes = argument.as_bytes();
    let place = bytes.iter().position(|byte| *byte == b'=');
    match place.and_then(|place| bytes.split_at_checked(place)) {
        Some((name, value)) if name.starts_with(b"--") => {
            let value = value.strip_prefix(b"=").unwrap_or_default();
            (
                OsStr::from_bytes(name).to_owned(),
                Some(OsStr::from_bytes(value).to_owned()),
            )
        }
        _ => (argument.to_owned(), None),
    }
}

fn file(value: Option<OsString>) -> Result<PathBuf, String> {
    let value = value.unwrap_or_default();
    match value.as_bytes().strip_prefix(b"sqlite:") {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(OsStr::from_bytes(path))),
        _ => Err(format!(
            "migrate: --from must be sqlite:PATH, such as sqlite:/data/data.db: {SEE}"
        )),
    }
}

fn database(value: Option<OsString>) -> Result<String, String> {
    let url = value
        .and_then(|value| value.into_string().ok())
        .filter(|url| !url.is_empty());
    let url = url.ok_or_else(|| {
        format!("migrate: --to must be the URL of a database, postgres://ROLE@HOST:PORT/DATABASE: {SEE}")
    })?;
    match Settings::parse(&url, None) {
        Ok(settings) if settings.names_password() => Err(format!(
            "migrate: --to has a password in it, which everybody sees who lists the processes: leave it out, and name a file \
             with it in AA_DATABASE_PASSWORD_FILE: {SEE}"
        )),
        Ok(_) => Ok(url),
        Err(error) => Err(format!("migrate: {}: {SEE}", in_argument(&error.to_string()))),
    }
}

/// A sentence about the setting, of the argument.
pub(super) fn in_argument(text: &str) -> String {
    text.replace("AA_DATABASE_URL", "--to")
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn parsed(line: &[&str]) -> Result<Asked, String> {
        parse(line.iter().map(OsString::from))
    }

    const URL: &str = "postgres://agentwrit@db.example.org/agentwrit?sslmode=disable";

    #[test]
    fn a_file_moves_to_a_database() {
        let task = |to: Option<&str>, json| {
            Ok(Asked::Task(MigrateTask {
                from: "/data/data.db".into(),
                to: to.map(str::to_owned),
                json,
            }))
        };
        let from = ["--from", "sqlite:/data/data.db"];
        assert_eq!(parsed(&from), task(None, false));
        assert_eq!(parsed(&["--json", "--from=sqlite:/data/data.db"]), task(None, true));
        assert_eq!(parsed(&[from[0], from[1], "--to", URL]), task(Some(URL), false));
        let joined = format!("--to={URL}");
        assert_eq!(parsed(&[&joined, from[0], from[1]]), task(Some(URL), false));
        assert_eq!(parsed(&["--from", "--help"]).ok(), None);
        assert_eq!(parsed(&[from[0], from[1], "-h"]), Ok(Asked::Help));
        let odd = OsString::from_vec(b"sqlite:a\xff.db".to_vec());
        let from = parse(["--from".into(), odd].into_iter()).unwrap();
        assert!(matches!(from, Asked::Task(task) if task.from.as_os_str().as_bytes() == b"a\xff.db"));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        let from = "--from=sqlite:data.db";
        for (wrong, says) in [
            (&[][..], "needs --from sqlite:PATH"),
            (&["--from", "data.db"], "--from must be sqlite:PATH"),
            (&["--from=sqlite:"], "--from must be sqlite:PATH"),
            (&["--from"], "--from must be sqlite:PATH"),
            (&[from, from], "--from is given twice"),
            (&[from, "--to"], "--to must be the URL"),
            (
                &[from, "--to", "postgres://u:hunter2@h/d?sslmode=disable"],
                "AA_DATABASE_PASSWORD_FILE",
            ),
            (&[from, "--to=postgres://u:hunter2?@h/d"], "--to names no"),
            (
                &[from, "--to", "postgres://u@h/d?hunter2@h"],
                "--to: what follows the ?",
            ),
            (
                &[from, "--to", "mysql://u:hunter2@h/d"],
                "--to must begin with postgres://",
            ),
            (&[from, "postgres://u:hunter2@h/d"], "nothing without such a name"),
            (
                &[from, "--target=postgres://u:hunter2@h/d"],
                "unknown argument \"--target\"",
            ),
            (&[from, "--json=yes"], "unknown argument \"--json\""),
        ] {
            let text = parsed(wrong).unwrap_err();
            assert!(
                text.contains(says) && text.contains("migrate --help"),
                "{wrong:?}: {text}"
            );
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
