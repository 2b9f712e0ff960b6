//! Moving a store's content elsewhere: `agentwrit-broker migrate`.
//!
//! The lock file is held from the first look to the last step, so that no broker writes what nobody moves. The file is
//! only read, in one transaction; at last, when all of it is elsewhere, it gets a note by which brokers refuse it.

mod error;
mod rows;

use std::path::{Path, PathBuf};
use std::time::Duration;

use agentwrit_protocol::audit::{AuditEvent, Break, BreakKind, ChainWalker, CheckpointKeys, Step};
use agentwrit_store::content::{EventRow, Origin, Piece};
use agentwrit_store::{MetaKey, SigningKey, StoreError, StoreLocation};
use agentwrit_trail::checkpoint_from_text;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::mpsc::Sender;

pub use self::error::DepartureError;
use self::error::{Result, store};
use self::rows::{Batch, events_from, last_denial, sealed_segments, table_rows};
use crate::audit::segments::first_kept;
use crate::audit::tail::verify_tail;
use crate::disk::memory_run::MemoryRun;
use crate::disk::stale_wal;
use crate::error::Operation;
use crate::facts;
use crate::open::{StoreLock, lock};
use crate::rows::signing_keys;
use crate::schema::LATEST;

/// How long to wait for a process that holds a lock of SQLite for a moment, as a backup does.
const BUSY: Duration = Duration::from_secs(10);
const OPEN: &str = "open";
const NOTE: &str = "note_move";

/// A store whose content leaves it.
pub struct Departing {
    path: PathBuf,
    connection: Connection,
    keys: Vec<SigningKey>,
    _lock: StoreLock,
}

impl Departing {
    /// Takes the store's lock and begins to read. Beside the store and `signing_key` there must be no note of a broker that
    /// ran on memory.
    ///
    /// # Errors
    /// When it is no store that can be moved now.
    pub fn open(path: &Path, signing_key: &Path) -> Result<Self> {
        let failed = store(path);
        match std::fs::metadata(path) {
            Ok(found) if found.is_file() => {}
            Ok(_) => return Err(not_a_store(path, "it is no file")),
            Err(source) => {
                return Err(DepartureError::NoStore {
                    path: path.to_owned(),
                    source,
                });
            }
        }
        let held = lock(path).map_err(&failed)?;
        if MemoryRun::beside(signing_key, &StoreLocation::File(path.to_owned())).noted() {
            return Err(DepartureError::RanOnMemory { path: path.to_owned() });
        }
        stale_wal::remove(path).map_err(&failed)?;
        let connection = connect(path).map_err(&failed)?;
        check(&connection, path)?;
        let keys = signing_keys::all(&connection).map_err(&failed)?;
        Ok(Self {
            path: path.to_owned(),
            connection,
            keys,
            _lock: held,
        })
    }

    /// Every signing key that it ever had.
    pub fn signing_keys(&self) -> &[SigningKey] {
        &self.keys
    }

    /// Where it stands, once the end of its trail is verified as an opening broker does.
    ///
    /// # Errors
    /// When the trail is broken, or can't be read.
    pub fn origin(&self, keys: &dyn CheckpointKeys) -> Result<Origin> {
        let origin = || {
            let head = verify_tail(&self.connection, keys)?;
            Ok(Origin {
                epoch: facts::read(&self.connection, MetaKey::Epoch)?.unwrap_or_default(),
                sequence: head.sequence,
                hash: head.hash,
                checkpoint: head.checkpoint,
                signed: head.signed,
                unsigned_since: head.unsigned_since,
                first_kept: first_kept(&self.connection)?,
                last_denial: last_denial(&self.connection)?,
            })
        };
        origin().map_err(store(&self.path))
    }

    /// Sends all that it holds, and verifies the whole trail on the way: what follows a break isn't sent.
    ///
    /// # Errors
    /// When the trail is broken, something can't be read, or nobody takes it.
    pub fn send(&self, origin: &Origin, keys: &dyn CheckpointKeys, pieces: &Sender<Piece>) -> Result<()> {
        let failed = store(&self.path);
        let mut to = Outlet {
            path: &self.path,
            pieces,
        };
        for table in &agentwrit_store::content::TABLES {
            table_rows(&self.connection, table, &self.path, &mut |rows| {
                to.put(Piece::Rows(table, rows))
            })?;
        }
        let mut sealed = sealed_segments(&self.connection)
            .map_err(&failed)?
            .into_iter()
            .peekable();
        let mut walk = Walk::begin(&self.connection, origin, keys).map_err(&failed)?;
        let mut batch = Batch::default();
        events_from(
            &self.connection,
            origin.first_kept,
            &self.path,
            &mut |event: EventRow| {
                // Parts of a segment that has ended: the partition of the next is made after it.
                while let Some(ended) = sealed.next_if(|next| next.segment.last < event.sequence) {
                    to.put_events(&mut batch)?;
                    to.put(Piece::Sealed(Box::new(ended)))?;
                }
                walk.feed(&event).map_err(&failed)?;
                batch.push(event);
                if batch.is_full() {
                    to.put_events(&mut batch)
                } else {
                    Ok(())
                }
            },
        )?;
        to.put_events(&mut batch)?;
        if let Some(missing) = sealed.next() {
            let broken = broken(missing.segment.last, BreakKind::Forgotten);
            return Err(failed(broken));
        }
        walk.finish().map_err(&failed)?;
        to.put(Piece::End)
    }

    /// Notes in the file that its content is now there: no broker uses the file any more. Then it lets the store go.
    ///
    /// # Errors
    /// When that can't be written; the file is then as it was.
    pub fn leave(self, to: &str) -> Result<()> {
        let failed = store(&self.path);
        let noting = || {
            let connection = &self.connection;
            connection
                .execute_batch("ROLLBACK; PRAGMA query_only = OFF; PRAGMA synchronous = FULL")
                .during(NOTE)?;
            facts::write(connection, MetaKey::MovedTo, to)
        };
        noting().map_err(&failed)?;
        // Into the file, which may be taken without its WAL.
        if let Err(error) = self.connection.close() {
            tracing::debug!(target: "STORE", component = "Migrate", error = %error.1, "the WAL stays beside the file");
        }
        Ok(())
    }
}

fn connect(path: &Path) -> agentwrit_store::Result<Connection> {
    // To write is what SQLite needs to read a WAL that a broker has left behind; the content is left alone.
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_READ_WRITE;
    let connection = Connection::open_with_flags(path, flags).during(OPEN)?;
    connection.busy_timeout(BUSY).during(OPEN)?;
    connection.execute_batch("PRAGMA query_only = ON; BEGIN").during(OPEN)?;
    Ok(connection)
}

/// Whether it is a store of ours, of this program's schema, and not moved yet.
fn check(connection: &Connection, path: &Path) -> Result<()> {
    let failed = store(path);
    let version = connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
    let version = match version {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            return Err(not_a_store(path, "it is no SQLite file"));
        }
        other => other.during(OPEN).map_err(&failed)?,
    };
    // A file of another program has no such table, and what SQLite says of that is not what is wrong.
    if !matches!(facts::read(connection, MetaKey::Epoch), Ok(Some(epoch)) if !epoch.is_empty()) {
        return Err(not_a_store(path, "it has no epoch"));
    }
    let (path, known) = (path.to_owned(), LATEST);
    match usize::try_from(version).unwrap_or_default() {
        later if later > known => return Err(DepartureError::Newer { path, version, known }),
        earlier if earlier < known => return Err(DepartureError::Older { path, version, known }),
        _ => {}
    }
    match facts::read(connection, MetaKey::MovedTo).map_err(&failed)? {
        Some(to) => Err(DepartureError::Gone { path, to }),
        None => Ok(()),
    }
}

fn not_a_store(path: &Path, why: &'static str) -> DepartureError {
    DepartureError::NotAStore {
        path: path.to_owned(),
        why,
    }
}

fn broken(sequence: i64, kind: BreakKind) -> StoreError {
    StoreError::BrokenChain(Break { sequence, kind })
}

/// Where the pieces go.
struct Outlet<'s> {
    path: &'s Path,
    pieces: &'s Sender<Piece>,
}

impl Outlet<'_> {
    fn put(&mut self, piece: Piece) -> Result<()> {
        let sent = self.pieces.blocking_send(piece);
        sent.map_err(|_| DepartureError::Abandoned(self.path.to_owned()))
    }

    fn put_events(&mut self, batch: &mut Batch<EventRow>) -> Result<()> {
        let events = batch.take();
        if events.is_empty() {
            return Ok(());
        }
        self.put(Piece::Events(events))
    }
}

/// The walk along the whole trail.
struct Walk<'k> {
    walker: ChainWalker,
    keys: &'k dyn CheckpointKeys,
    end: (i64, String),
}

impl<'k> Walk<'k> {
    fn begin(connection: &Connection, origin: &Origin, keys: &'k dyn CheckpointKeys) -> agentwrit_store::Result<Self> {
        let known = facts::read(connection, MetaKey::AuditCheckpoint)?;
        let known = known.as_deref().map(checkpoint_from_text).transpose()?;
        let walker = if origin.first_kept > 1 {
            ChainWalker::from_checkpoint()
        } else {
            ChainWalker::from_start()
        };
        Ok(Self {
            walker: known.into_iter().fold(walker, ChainWalker::expecting),
            keys,
            end: (origin.sequence, origin.hash.clone()),
        })
    }

    fn feed(&mut self, event: &EventRow) -> agentwrit_store::Result<Step> {
        let step = self.walker.feed_json(&event.json, self.keys);
        let step = step.map_err(StoreError::BrokenChain)?;
        if self.walker.sequence() != event.sequence {
            let id = BreakKind::Id(AuditEvent::id_for(event.sequence));
            return Err(broken(self.walker.sequence(), id));
        }
        Ok(step)
    }

    fn finish(self) -> agentwrit_store::Result<()> {
        let done = self.walker.finish().map_err(StoreError::BrokenChain)?;
        if (done.sequence, done.head) != self.end {
            return Err(broken(done.sequence.saturating_add(1), BreakKind::Forgotten));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
