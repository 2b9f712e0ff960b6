//! The command line: what the program is to do.

use std::ffi::OsString;
use std::path::PathBuf;

use agentwrit_protocol::UnixSeconds;
use agentwrit_protocol::excerpt::excerpt;
use agentwrit_protocol::timestamp::parse_rfc3339;
use agentwrit_store::{Declared, PutBack};

use super::migrate::arguments::{self as migrate, MigrateTask};
use crate::config::help;

const VERSION: &str = concat!("agentwrit-broker ", env!("CARGO_PKG_VERSION"));
const RESTORED_AT: &str = "--restored=";
const NANOS_A_SECOND: i64 = 1_000_000_000;
const SEE: &str = "see agentwrit-broker --help";
const SEE_BACKUP: &str = "see agentwrit-broker backup --help";

/// The text of `backup --help`.
const BACKUP_HELP: &str = "\
agentwrit-broker backup: copies the store into a new file, also while the broker runs

Usage: agentwrit-broker backup [--json] FILE

FILE must not be there yet. It appears under its name when it is whole: one file, readable by its owner only, which
SQLite has checked, and whose audit chain was verified from the last checkpoint on. Commits of the broker don't wait
for it. The store is that of AA_DB_PATH; no other setting is read, and neither the signing key nor the mark is copied.

At the end it says how many events the copy holds, the last one's hash, the store's epoch, bytes and seconds. Progress
goes to standard error when it takes more than two seconds.

  --json    say it as one JSON object
  --help    show this

Exit code: 0 when FILE is there, 1 when it isn't (a line FATAL: says why), 2 for arguments that aren't understood.

Examples:
  agentwrit-broker backup /backup/agentwrit-2026-11-30.db
  AA_DB_PATH=/data/data.db agentwrit-broker backup --json /backup/agentwrit.db

To put it back: docs/backup.md";

/// What the program is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    /// Be a broker.
    Serve(Declared),
    /// Copy the store.
    Backup(BackupTask),
    /// Move the store into a database.
    Migrate(MigrateTask),
    /// Say this.
    Say(String),
}

/// How the store is to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BackupTask {
    /// Where to.
    pub(super) file: PathBuf,
    /// Whether a program reads what comes of it.
    pub(super) json: bool,
}

/// Reads the arguments after the program's name.
///
/// # Errors
/// A line that says what isn't understood.
pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Task, String> {
    let mut arguments = arguments.into_iter().peekable();
    if arguments.next_if(|first| first == "backup").is_some() {
        return backup(arguments);
    }
    if arguments.next_if(|first| first == "migrate").is_some() {
        return Ok(match migrate::parse(arguments)? {
            migrate::Asked::Task(task) => Task::Migrate(task),
            migrate::Asked::Help => Task::Say(migrate::HELP.to_owned()),
        });
    }
    let mut declared = Declared::default();
    for argument in arguments {
        match argument.to_str() {
            Some("--restored") => declared.restored = PutBack::BeforeThisStart,
            Some(argument) if argument.starts_with(RESTORED_AT) => {
                declared.restored = put_back(argument.strip_prefix(RESTORED_AT).unwrap_or_default())?;
            }
            Some("--accept-clock") => declared.accept_clock = true,
            Some("--adopt-installation") => declared.adopt_installation = true,
            Some("--help" | "-h") => return Ok(Task::Say(help())),
            Some("--version" | "-V") => return Ok(Task::Say(VERSION.to_owned())),
            _ => return Err(format!("unknown argument {:?}: {SEE}", argument.to_string_lossy())),
        }
    }
    Ok(Task::Serve(declared))
}

/// The time at which the store was put back.
fn put_back(text: &str) -> Result<PutBack, String> {
    match parse_rfc3339(text) {
        Some(moment) => Ok(PutBack::At(UnixSeconds::new(moment.get().div_euclid(NANOS_A_SECOND)))),
        None => Err(format!(
            "--restored={:?} must be the time at which the store was put back, such as --restored=2026-11-30T12:00:00Z: {SEE}",
            excerpt(text)
        )),
    }
}

fn backup(arguments: impl Iterator<Item = OsString>) -> Result<Task, String> {
    let (mut file, mut json, mut all_are_files) = (None, false, false);
    for argument in arguments {
        match argument.to_str() {
            Some("--") if !all_are_files => all_are_files = true,
            Some("--json") if !all_are_files => json = true,
            Some("--help" | "-h") if !all_are_files => return Ok(Task::Say(BACKUP_HELP.to_owned())),
            Some("") => return Err(format!("backup: the name of FILE is empty: {SEE_BACKUP}")),
            Some(option) if option.starts_with('-') && !all_are_files => {
                return Err(format!(
                    "backup: unknown argument {option:?} (a file of that name: ./{option}): {SEE_BACKUP}"
                ));
            }
            _ if file.is_some() => {
                let another = argument.to_string_lossy();
                return Err(format!("backup: one FILE, and {another:?} is another: {SEE_BACKUP}"));
            }
            _ => file = Some(PathBuf::from(argument)),
        }
    }
    match file {
        Some(file) => Ok(Task::Backup(BackupTask { file, json })),
        None => Err(format!(
            "backup needs the FILE to write, such as /backup/agentwrit.db: {SEE_BACKUP}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn parsed(line: &[&str]) -> Result<Task, String> {
        parse(line.iter().map(OsString::from))
    }

    #[test]
    fn a_broker_has_three_flags() {
        let serve = |restored, accept_clock| {
            Ok(Task::Serve(Declared {
                restored,
                accept_clock,
                adopt_installation: false,
            }))
        };
        let now = PutBack::BeforeThisStart;
        assert_eq!(parsed(&[]), serve(PutBack::No, false));
        assert_eq!(parsed(&["--restored"]), serve(now, false));
        assert_eq!(parsed(&["--accept-clock", "--restored"]), serve(now, true));
        let at = PutBack::At(UnixSeconds::new(1_796_040_000));
        for time in ["2026-11-30T12:00:00Z", "2026-11-30T13:00:00.9+01:00"] {
            assert_eq!(parsed(&[&format!("--restored={time}")]), serve(at, false));
        }
        for wrong in ["--restored=", "--restored=yes", "--restored=2026-11-30"] {
            let text = parsed(&[wrong]).unwrap_err();
            assert!(text.contains("such as --restored=2026-11-30T12:00:00Z"), "{text}");
        }
        assert_eq!(
            parsed(&["--adopt-installation"]),
            Ok(Task::Serve(Declared {
                adopt_installation: true,
                ..Declared::default()
            }))
        );
        for wrong in [&["--nonsense"][..], &["--restored", "backup"], &["restore"], &[""]] {
            let text = parsed(wrong).unwrap_err();
            assert!(text.contains("unknown argument") && text.contains("--help"), "{text}");
        }
        assert!(matches!(parsed(&["--restored", "-h"]), Ok(Task::Say(text)) if text.contains("AA_DB_PATH")));
        assert!(matches!(parsed(&["-V"]), Ok(Task::Say(text)) if text == VERSION));
    }

    #[test]
    fn a_backup_has_one_file() {
        let to = |file: &str, json| {
            let file = PathBuf::from(file);
            Ok(Task::Backup(BackupTask { file, json }))
        };
        assert_eq!(parsed(&["backup", "a.db"]), to("a.db", false));
        assert_eq!(parsed(&["backup", "a.db", "--json"]), to("a.db", true));
        assert_eq!(parsed(&["backup", "--json", "--", "--help"]), to("--help", true));
        assert_eq!(parsed(&["backup", "backup"]), to("backup", false));
        for (wrong, says) in [
            (&["backup"][..], "needs the FILE"),
            (&["backup", "--json"], "needs the FILE"),
            (&["backup", ""], "is empty"),
            (&["backup", "a.db", "b.db"], "\"b.db\" is another"),
            (&["backup", "--restored", "a.db"], "./--restored"),
            (&["backup", "-"], "\"-\""),
        ] {
            let text = parsed(wrong).unwrap_err();
            assert!(
                text.contains(says) && text.contains("backup --help"),
                "{wrong:?}: {text}"
            );
        }
        assert!(matches!(parsed(&["backup", "a.db", "--help"]), Ok(Task::Say(text)) if text == BACKUP_HELP));
    }

    #[test]
    fn a_name_that_is_no_text_is_a_name_all_the_same() {
        let odd = OsString::from_vec(b"a\xff.db".to_vec());
        let task = parse(["backup".into(), odd.clone()]);
        let file = PathBuf::from(&odd);
        assert_eq!(task, Ok(Task::Backup(BackupTask { file, json: false })));
        assert!(parse([odd]).unwrap_err().contains("unknown argument"));
    }
}
