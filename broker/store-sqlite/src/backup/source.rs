//! The store that is copied, as one read transaction sees it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agentwrit_store::MetaKey;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::error::{BackupError, During, Result};
use crate::facts;
use crate::schema::LATEST;

/// How long to wait for a process that holds a lock for a moment, as one does that opens or closes the store.
const BUSY: Duration = Duration::from_secs(10);
const OPEN: &str = "open the store";

/// A connection inside a read transaction. The lock file is the broker's, and isn't asked for.
pub(super) struct Source {
    path: PathBuf,
    connection: Connection,
    page_bytes: u64,
    pages: u64,
}

impl Source {
    /// Whether there is a file of this name.
    pub(super) fn exists(path: &Path) -> Result<()> {
        match std::fs::metadata(path) {
            Ok(found) if found.is_file() => Ok(()),
            Ok(_) => Err(not_a_store(path, "it is no file")),
            Err(source) => Err(BackupError::NoStore {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Begins to read, once it is known to be a store of ours.
    pub(super) fn open(path: &Path) -> Result<Self> {
        // To write is what SQLite needs to read a WAL that a broker has left behind, and to bring what commits have written
        // meanwhile into the file at the end; the content is left alone.
        let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_READ_WRITE;
        let connection = Connection::open_with_flags(path, flags).during(OPEN)?;
        connection.busy_timeout(BUSY).during(OPEN)?;
        connection.execute_batch("PRAGMA query_only = ON; BEGIN").during(OPEN)?;
        let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
        let version = match number("PRAGMA user_version") {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
                return Err(not_a_store(path, "it is no SQLite file"));
            }
            other => other.during(OPEN)?,
        };
        if !is_ours(&connection) {
            return Err(not_a_store(path, "it has no epoch"));
        }
        if usize::try_from(version).is_ok_and(|version| version > LATEST) {
            return Err(BackupError::Newer {
                path: path.to_owned(),
                version,
                known: LATEST,
            });
        }
        let size = |pragma| number(pragma).map(|number| u64::try_from(number).unwrap_or_default());
        Ok(Self {
            path: path.to_owned(),
            page_bytes: size("PRAGMA page_size").during(OPEN)?,
            pages: size("PRAGMA page_count").during(OPEN)?,
            connection,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) const fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    /// What the copy will take.
    pub(super) const fn bytes(&self) -> u64 {
        self.page_bytes.saturating_mul(self.pages)
    }

    /// Ends the transaction, and does here what a commit of the broker would else have to do for it: brings what the WAL
    /// has gathered meanwhile into the file.
    pub(super) fn close(self) {
        let ended = self
            .connection
            .execute_batch("ROLLBACK; PRAGMA wal_checkpoint(PASSIVE)");
        if let Err(error) = ended {
            tracing::debug!(target: "STORE", component = "Backup", %error, "the WAL is left to the broker");
        }
    }
}

/// Whether a broker has begun an epoch in it.
fn is_ours(connection: &Connection) -> bool {
    // A file of another program has no such table, and what SQLite says of that is not what is wrong.
    matches!(facts::read(connection, MetaKey::Epoch), Ok(Some(epoch)) if !epoch.is_empty())
}

fn not_a_store(path: &Path, why: &str) -> BackupError {
    BackupError::NotAStore {
        path: path.to_owned(),
        why: why.to_owned(),
    }
}
