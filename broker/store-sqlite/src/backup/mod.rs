//! A copy of a store, also while a broker uses it: `agentwrit-broker backup`.
//!
//! The copy is what one read transaction sees, so that commits go on beside it and none of them makes it begin anew. It
//! is written under another name, checked, and gets its own when it is whole. Its journal mode is that of a file without
//! a WAL: one file, which may lie on a medium that nothing can be written to, and by which an opening broker knows that
//! a WAL beside it is another store's ([`crate::disk::stale_wal`]).

mod error;
mod partial;
mod source;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::audit::SignatureCheck;
use agentwrit_store::MetaKey;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

pub use self::error::BackupError;
use self::error::{During, Result};
use self::partial::Partial;
use self::source::Source;
use crate::audit::tail::verify_tail;
use crate::facts;

/// Pages in one step; between steps the watcher is asked.
const STEP: i32 = 256;
/// Steps until what was written is synced: dirty pages that pile up would hold up the syncs of a broker on that disk.
const STEPS_A_SYNC: u32 = 8;
/// Until a step is tried again that found the file locked.
const LOCKED: Duration = Duration::from_millis(20);
/// Instructions of SQLite's machine between two questions to the watcher.
const CHECK_EVERY: i32 = 100_000;
/// What is told of a copy that fails its check.
const FAULTS: i64 = 5;

/// How far a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// So many bytes are copied, of so many.
    Copying {
        /// Done.
        done: u64,
        /// In all.
        of: u64,
    },
    /// The copy is read once more and checked.
    Checking,
}

/// Hears how far a backup is, a few times in each second, and says whether it goes on.
pub type Watcher = Arc<dyn Fn(Stage) -> ControlFlow<()> + Send + Sync>;

/// What the copy holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Events that are kept in the trail.
    pub events: i64,
    /// Number of the last one.
    pub sequence: i64,
    /// Its hash, lower hex.
    pub head: String,
    /// Epoch of the store.
    pub epoch: String,
    /// Size of the file.
    pub bytes: u64,
}

/// Copies the store in `source` into the new file `target`.
///
/// # Errors
/// What was wrong, and what would be right; there is no file `target` then.
pub fn backup(source: &Path, target: &Path, watcher: &Watcher) -> Result<Copied> {
    Source::exists(source)?;
    partial::check(target, source)?;
    let source = Source::open(source)?;
    let partial = Partial::create(target, source.path(), source.bytes())?;
    let mut copy = partial.connect()?;
    fill(&source, &mut copy, &partial, watcher)?;
    source.close();
    // One file, without a WAL: see above.
    let mode: String = copy
        .query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0))
        .during("end the copy")?;
    if mode != "delete" {
        return Err(BackupError::Damaged(format!("its journal mode stays {mode:?}")));
    }
    check(&mut copy, watcher)?;
    let mut copied = describe(&copy)?;
    copy.close().map_err(|(_, error)| error).during("close the copy")?;
    copied.bytes = partial.finish()?;
    Ok(copied)
}

fn fill(source: &Source, copy: &mut Connection, partial: &Partial, watcher: &Watcher) -> Result<()> {
    let backup = Backup::new(source.connection(), copy).during("begin the copy")?;
    let mut steps = 0_u32;
    loop {
        let step = backup.step(STEP).map_err(|error| partial.failed(error))?;
        let progress = backup.progress();
        let bytes = |pages: i32| {
            u64::try_from(pages)
                .unwrap_or_default()
                .saturating_mul(source.page_bytes())
        };
        let stage = Stage::Copying {
            done: bytes(progress.pagecount.saturating_sub(progress.remaining)),
            of: bytes(progress.pagecount),
        };
        if watcher(stage).is_break() {
            return Err(BackupError::Stopped);
        }
        match step {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            // Busy, Locked, and what a later SQLite may add.
            _ => std::thread::sleep(LOCKED),
        }
        steps = steps.wrapping_add(1);
        if steps.is_multiple_of(STEPS_A_SYNC) {
            partial.sync()?;
        }
    }
}

/// Has SQLite read all of the copy.
fn check(copy: &mut Connection, watcher: &Watcher) -> Result<()> {
    const CHECK: &str = "check the copy";
    if watcher(Stage::Checking).is_break() {
        return Err(BackupError::Stopped);
    }
    let asked = Arc::clone(watcher);
    let handler = move || asked(Stage::Checking).is_break();
    copy.progress_handler(CHECK_EVERY, Some(handler)).during(CHECK)?;
    let mut faults = Vec::new();
    copy.pragma(None, "integrity_check", FAULTS, |row| {
        faults.push(row.get::<_, String>(0)?);
        Ok(())
    })
    .during(CHECK)?;
    copy.progress_handler(0, None::<fn() -> bool>).during(CHECK)?;
    match faults.as_slice() {
        [only] if only == "ok" => Ok(()),
        _ => Err(BackupError::Damaged(faults.join("; "))),
    }
}

/// Reads what the copy holds, after the check that a broker makes when it opens a store.
fn describe(copy: &Connection) -> Result<Copied> {
    let epoch = facts::read(copy, MetaKey::Epoch)?.unwrap_or_default();
    // Who makes a backup need not have the signing key.
    let nobodys = |_: &str, _: &str, _: &str| SignatureCheck::UnknownKey;
    let mark = verify_tail(copy, &nobodys)?.mark(epoch);
    let first: i64 = copy
        .query_row("SELECT ifnull(min(seq), 1) FROM audit_events", [], |row| row.get(0))
        .during("count events")?;
    Ok(Copied {
        events: mark.sequence.saturating_add(1).saturating_sub(first),
        sequence: mark.sequence,
        head: mark.head,
        epoch: mark.epoch,
        bytes: 0,
    })
}
