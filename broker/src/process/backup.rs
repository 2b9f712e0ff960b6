//! `agentwrit-broker backup`: the store in one file, and what it holds.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agentwrit_protocol::Clock;
use agentwrit_store::StoreLocation;
use agentwrit_store_sqlite::{BackupError, Copied, Stage, Watcher, backup};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::arguments::BackupTask;
use crate::config::StorePlace;

/// From when on, and how often, progress is told.
const TELL_EVERY: Duration = Duration::from_secs(2);
const MIB: u64 = 1024 * 1024;

/// Why there is no backup: lines after `FATAL: `.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// There is no file: `AA_DB_PATH` is empty.
    #[error("AA_DB_PATH is empty: a store in memory can't be copied; name the file of the broker in AA_DB_PATH")]
    Memory,
    /// The store is a database.
    #[error(
        "the store is a database on PostgreSQL, which its own tools copy (pg_dump, pg_basebackup: docs/backup.md); \
         to copy an SQLite file, unset AA_DATABASE_URL and AA_DATABASE_URL_FILE"
    )]
    Postgres,
    /// The copy.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// Standard output is closed: the copy is there, and its figures are lost.
    #[error("the backup is there, but what it holds can't be said: {0}")]
    Output(#[source] std::io::Error),
    /// The system.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// What it says at the end, as JSON.
#[derive(Debug, Serialize)]
struct Report<'a> {
    file: String,
    events: i64,
    sequence: i64,
    head: &'a str,
    epoch: &'a str,
    bytes: u64,
    seconds: f64,
}

impl<'a> Report<'a> {
    fn new(file: &Path, copied: &'a Copied, took: Duration) -> Self {
        Self {
            file: file.display().to_string(),
            events: copied.events,
            sequence: copied.sequence,
            head: &copied.head,
            epoch: &copied.epoch,
            bytes: copied.bytes,
            seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
        }
    }

    fn text(&self) -> String {
        format!(
            "{}: {} events, the last is number {} with hash {}; epoch {}; {} bytes in {} s",
            self.file, self.events, self.sequence, self.head, self.epoch, self.bytes, self.seconds
        )
    }
}

/// Makes the backup and says what it holds.
///
/// # Errors
/// When there is none.
pub(super) fn run(task: &BackupTask, store: StorePlace, clock: &Arc<dyn Clock>) -> Result<(), Failed> {
    let store = match store {
        StorePlace::Embedded(StoreLocation::File(store)) => store,
        StorePlace::Embedded(StoreLocation::Memory) => return Err(Failed::Memory),
        StorePlace::Postgres(_) => return Err(Failed::Postgres),
    };
    let begun = clock.monotonic();
    let stopped = Arc::new(AtomicBool::new(false));
    let watcher = watcher(Arc::clone(clock), Arc::clone(&stopped), |line| {
        // Nobody to tell is no reason to stop.
        let _ = writeln!(std::io::stderr(), "{line}");
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (file, target) = (task.file.clone(), task.file.clone());
    let copied = runtime.block_on(async move {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut copying = tokio::task::spawn_blocking(move || backup(&store, &target, &watcher));
        let copied = tokio::select! {
            copied = &mut copying => copied,
            // What is half done is removed before the end.
            () = async { tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} } } => {
                stopped.store(true, Ordering::SeqCst);
                copying.await
            }
        };
        let copied = copied.map_err(std::io::Error::other)?;
        Ok::<_, Failed>(copied?)
    })?;
    let report = Report::new(&file, &copied, clock.monotonic().saturating_sub(begun));
    let text = if task.json {
        serde_json::to_string(&report).map_err(|error| Failed::Output(error.into()))?
    } else {
        report.text()
    };
    writeln!(std::io::stdout(), "{text}").map_err(Failed::Output)
}

/// Tells how far it is, at first after [`TELL_EVERY`], until it is stopped.
fn watcher(clock: Arc<dyn Clock>, stopped: Arc<AtomicBool>, say: impl Fn(&str) + Send + Sync + 'static) -> Watcher {
    let told = Mutex::new(clock.monotonic());
    Arc::new(move |stage| {
        if stopped.load(Ordering::SeqCst) {
            return ControlFlow::Break(());
        }
        let (now, mut told) = (clock.monotonic(), told.lock());
        if now.saturating_sub(*told) >= TELL_EVERY {
            *told = now;
            say(&progress(stage));
        }
        ControlFlow::Continue(())
    })
}

fn progress(stage: Stage) -> String {
    match stage {
        Stage::Copying { done, of } => format!(
            "copied {} of {} MiB ({} %)",
            done / MIB,
            of / MIB,
            done.saturating_mul(100) / of.max(1)
        ),
        Stage::Checking => "checking the copy".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use agentwrit_protocol::clock::ManualClock;

    use super::*;

    #[test]
    fn progress_is_told_every_two_seconds_until_it_is_stopped() {
        let clock = Arc::new(ManualClock::at(1_800_000_000));
        let stopped = Arc::new(AtomicBool::new(false));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&lines);
        let say = move |line: &str| heard.lock().push(line.to_owned());
        let watcher = watcher(Arc::<ManualClock>::clone(&clock), Arc::clone(&stopped), say);
        let stage = Stage::Copying {
            done: 300 * MIB,
            of: 900 * MIB,
        };
        assert!(watcher(stage).is_continue() && lines.lock().is_empty(), "not before");
        clock.advance(2);
        assert!(watcher(stage).is_continue() && watcher(stage).is_continue());
        assert_eq!(lines.lock().as_slice(), ["copied 300 of 900 MiB (33 %)"]);
        clock.advance(2);
        assert!(watcher(Stage::Checking).is_continue());
        assert_eq!(lines.lock().len(), 2);
        clock.advance(2);
        stopped.store(true, Ordering::SeqCst);
        assert!(watcher(Stage::Checking).is_break());
        assert_eq!(lines.lock().last().unwrap(), "checking the copy");
    }
}
