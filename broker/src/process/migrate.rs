//! `agentwrit-broker migrate`: the store, from a file into a database.

pub(super) mod arguments;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use agentwrit_protocol::Clock;
use agentwrit_protocol::timestamp::rfc3339_seconds;
use agentwrit_store::content::{Origin, Piece, Stage, Watcher};
use agentwrit_store_postgres::{ArrivalError, Arrived, Settings, arrive};
use agentwrit_store_sqlite::{Departing, DepartureError};
use agentwrit_tokens::key_set::KeySet;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc::channel;

use self::arguments::{MigrateTask, in_argument};
use super::progress::{Ends, report as say, seconds, tell, watcher};
use crate::config::{Config, StorePlace};
use crate::service::signing_keys::public_keys;

/// Pieces that are on their way: each has 1 MiB, or one row.
const ON_THEIR_WAY: usize = 4;

/// Why nothing was moved: lines after `FATAL: `.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// The settings.
    #[error("{0}")]
    Settings(String),
    /// No database is named.
    #[error("no database is named: --to postgres://ROLE@HOST:PORT/DATABASE, AA_DATABASE_URL or AA_DATABASE_URL_FILE")]
    NoTarget,
    /// The file.
    #[error(transparent)]
    Departure(#[from] DepartureError),
    /// The database.
    #[error(transparent)]
    Arrival(#[from] ArrivalError),
    /// The note is not in the file.
    #[error(
        "everything is in {to}, but the file could not be marked ({source}): mend that and run it again, and start no broker on \
         the file"
    )]
    Unmarked {
        /// The database.
        to: String,
        /// Why.
        #[source]
        source: DepartureError,
    },
    /// Standard output is closed.
    #[error("it was moved, but what can't be said: {0}")]
    Output(#[source] std::io::Error),
    /// The system.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// What it says at the end, as JSON.
#[derive(Debug, Serialize)]
struct Report<'a> {
    from: String,
    to: &'a str,
    /// Whether it had been moved before, and only the note was missing.
    moved_before: bool,
    events: i64,
    sequence: i64,
    head: &'a str,
    epoch: &'a str,
    segments: i64,
    /// By table.
    rows: Map<String, Value>,
    seconds: f64,
}

impl Report<'_> {
    fn text(&self) -> String {
        let Self { from, to, epoch, .. } = self;
        if self.moved_before {
            return format!("{from} had been moved to {to} before (epoch {epoch}): the file is marked now");
        }
        let rows = |(name, count): (&String, &Value)| format!("{count} {}", name.replace('_', " "));
        let rows: Vec<_> = self.rows.iter().filter(|(_, count)| **count != 0).map(rows).collect();
        format!(
            "{from} was moved to {to}: {} events, the last is number {} with hash {}; epoch {epoch}; {}; verified, in {} s",
            self.events,
            self.sequence,
            self.head,
            rows.join(", "),
            self.seconds
        )
    }
}

/// Moves the store and says what was moved.
///
/// # Errors
/// When it wasn't moved, or the file isn't marked.
pub(super) fn run(
    task: &MigrateTask,
    env: &dyn Fn(&str) -> Option<String>,
    clock: &Arc<dyn Clock>,
) -> Result<(), Failed> {
    let begun = clock.monotonic();
    let settings = settings(task, env)?;
    let to = settings.place_url();
    let source = Departing::open(&task.from, &signing_key(env))?;
    let keys = Arc::new(public_keys(source.signing_keys()));
    let origin = source.origin(keys.as_ref())?;
    let stopped = Arc::new(AtomicBool::new(false));
    let events = origin.events();
    let told = move |stage| progress(stage, events);
    let watcher = watcher(Arc::clone(clock), Arc::clone(&stopped), told, tell);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (source, arrived) = runtime.block_on(moved(source, &origin, keys, &settings, &watcher, stopped))?;
    let note = format!("{to} at {}", rfc3339_seconds(clock.unix_seconds()));
    source
        .leave(&note)
        .map_err(|source| Failed::Unmarked { to: to.clone(), source })?;
    let (moved_before, rows, segments) = match arrived {
        Arrived::Before => (true, Vec::new(), 0),
        Arrived::Now { rows, segments } => (false, rows, segments),
    };
    let took = clock.monotonic().saturating_sub(begun);
    let report = Report {
        from: task.from.display().to_string(),
        to: &to,
        moved_before,
        events: origin.events(),
        sequence: origin.sequence,
        head: &origin.hash,
        epoch: &origin.epoch,
        segments,
        rows: rows
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count.into()))
            .collect(),
        seconds: seconds(took),
    };
    say(&report, task.json, Report::text).map_err(Failed::Output)
}

/// One thread reads the file, and this one writes into the database.
async fn moved(
    source: Departing,
    origin: &Origin,
    keys: Arc<KeySet>,
    settings: &Settings,
    watcher: &Watcher,
    stopped: Arc<AtomicBool>,
) -> Result<(Departing, Arrived), Failed> {
    let ends = Ends::listen()?;
    let (pieces, mut taken) = channel::<Piece>(ON_THEIR_WAY);
    let (told, known) = (origin.clone(), Arc::clone(&keys));
    let sending = tokio::task::spawn_blocking(move || {
        let sent = source.send(&told, known.as_ref(), &pieces);
        (source, sent)
    });
    let arriving = Box::pin(async {
        let arrived = arrive(settings, origin, keys.as_ref(), &mut taken, watcher).await;
        // Whoever sends must not wait for one who takes nothing any more.
        drop(taken);
        arrived
    });
    let arrived = ends.stop(&stopped, arriving).await;
    let (source, sent) = sending.await.map_err(std::io::Error::other)?;
    match (arrived, sent) {
        // What went wrong with the file says why nothing more came.
        (Err(ArrivalError::Incomplete), Err(error)) => Err(error.into()),
        (arrived, _) => Ok((source, arrived?)),
    }
}

/// The database: of the argument, else of the settings.
fn settings(task: &MigrateTask, env: &dyn Fn(&str) -> Option<String>) -> Result<Settings, Failed> {
    let given = |name: &str| match (name, &task.to) {
        ("AA_DB_PATH", _) | ("AA_DATABASE_URL_FILE", Some(_)) => None,
        ("AA_DATABASE_URL", Some(url)) => Some(url.clone()),
        _ => env(name),
    };
    match Config::store_alone(&given) {
        Ok(StorePlace::Postgres(settings)) => Ok(*settings),
        Ok(StorePlace::Embedded(_)) => Err(Failed::NoTarget),
        Err(failures) if task.to.is_some() => Err(Failed::Settings(in_argument(&failures.join("; ")))),
        Err(failures) => Err(Failed::Settings(failures.join("; "))),
    }
}

/// Where a broker would have noted that it ran on memory.
fn signing_key(env: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    Config::signing_keys_alone(env).path().to_owned()
}

fn progress(stage: Stage, events: i64) -> String {
    let of = grouped(events);
    match stage {
        Stage::Moving(done) => format!("migrate: {} of {of} events", grouped(done)),
        Stage::Checking(done) => format!("migrate: verified {} of {of} events", grouped(done)),
    }
}

/// A number with a comma between thousands.
fn grouped(number: i64) -> String {
    let digits = number.max(0).to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use agentwrit_protocol::clock::ManualClock;
    use parking_lot::Mutex;

    use super::*;

    #[test]
    fn progress_is_told_every_two_seconds_until_it_is_stopped() {
        let clock = Arc::new(ManualClock::at(1_800_000_000));
        let stopped = Arc::new(AtomicBool::new(false));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&lines);
        let say = move |line: &str| heard.lock().push(line.to_owned());
        let told = |stage| progress(stage, 1_000_000);
        let watcher = watcher(Arc::<ManualClock>::clone(&clock), Arc::clone(&stopped), told, say);
        let stage = Stage::Moving(120_000);
        assert!(watcher(stage).is_continue() && lines.lock().is_empty(), "not before");
        clock.advance(2);
        assert!(watcher(stage).is_continue() && watcher(stage).is_continue());
        assert_eq!(lines.lock().as_slice(), ["migrate: 120,000 of 1,000,000 events"]);
        clock.advance(2);
        assert!(watcher(Stage::Checking(999)).is_continue());
        assert_eq!(
            lines.lock().last().unwrap(),
            "migrate: verified 999 of 1,000,000 events"
        );
        stopped.store(true, Ordering::SeqCst);
        assert!(watcher(stage).is_break());
        assert_eq!(lines.lock().len(), 2);
    }

    #[test]
    fn the_database_is_that_of_the_argument_or_of_the_settings() {
        let task = |to: Option<&str>| MigrateTask {
            from: "data.db".into(),
            to: to.map(str::to_owned),
            json: false,
        };
        let place = |to: Option<&str>, set: &[(&str, &str)]| {
            let env = |name: &str| {
                set.iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| (*value).to_owned())
            };
            settings(&task(to), &env).map(|settings| (settings.place_url(), settings.password_file))
        };
        let one = "postgres://u@one/d?sslmode=disable";
        let two = "postgres://u:hunter2@[::1]:99/d%20e?sslmode=disable";
        let of = |url: &str, file: Option<&str>| (url.to_owned(), file.map(PathBuf::from));
        assert_eq!(
            place(
                Some(one),
                &[("AA_DATABASE_URL", two), ("AA_DATABASE_PASSWORD_FILE", "p")]
            )
            .unwrap(),
            of("postgres://u@one:5432/d", Some("p"))
        );
        assert_eq!(
            place(None, &[("AA_DATABASE_URL", two), ("AA_DB_PATH", "data.db")]).unwrap(),
            of("postgres://u@[::1]:99/d%20e", None)
        );
        assert!(matches!(
            place(None, &[("AA_DB_PATH", "data.db")]),
            Err(Failed::NoTarget)
        ));
        let both = place(None, &[("AA_DATABASE_URL", two), ("AA_DATABASE_PASSWORD_FILE", "p")]);
        let text = both.unwrap_err().to_string();
        assert!(text.contains("only one of them") && !text.contains("hunter2"), "{text}");
    }
}
