//! `agentwrit-broker backup`: the store in one file, and what it holds.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use agentwrit_protocol::Clock;
use agentwrit_store::StoreLocation;
use agentwrit_store_sqlite::{BackupError, Copied, Stage, backup};
use serde::Serialize;

use super::arguments::BackupTask;
use super::progress::{Ends, report as say, seconds, tell, watcher};
use crate::config::StorePlace;

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
            seconds: seconds(took),
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
    let watcher = watcher(Arc::clone(clock), Arc::clone(&stopped), progress, tell);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (file, target) = (task.file.clone(), task.file.clone());
    let copied = runtime.block_on(async move {
        let ends = Ends::listen()?;
        let copying = tokio::task::spawn_blocking(move || backup(&store, &target, &watcher));
        // What is half done is removed before the end.
        let copied = ends.stop(&stopped, copying).await;
        let copied = copied.map_err(std::io::Error::other)?;
        Ok::<_, Failed>(copied?)
    })?;
    let report = Report::new(&file, &copied, clock.monotonic().saturating_sub(begun));
    say(&report, task.json, Report::text).map_err(Failed::Output)
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
        let watcher = watcher(Arc::<ManualClock>::clone(&clock), Arc::clone(&stopped), progress, say);
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
