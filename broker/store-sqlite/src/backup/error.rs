//! Why there is no copy.

use std::io;
use std::path::{Path, PathBuf};

use agentwrit_store::StoreError;
use rusqlite::ErrorCode;

/// Why there is no copy; nothing is left under its name.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is no store.
    #[error("there is no store {path} ({source}): name the file of the broker in AA_DB_PATH")]
    NoStore {
        /// Where one should be.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("{path} is no store of a broker ({why}): name the file of the broker in AA_DB_PATH")]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// By what it is seen.
        why: String,
    },
    /// A later program has changed its schema.
    #[error(
        "{path} has schema {version}, and this program knows those up to {known}: make the backup with the program that \
         runs the store, or a later one"
    )]
    Newer {
        /// The store.
        path: PathBuf,
        /// Its schema.
        version: i64,
        /// The latest that is known.
        known: usize,
    },
    /// Something has the name already.
    #[error("{0} is there already, and a backup overwrites nothing: give another name, or remove it first")]
    Exists(PathBuf),
    /// The name belongs to the store.
    #[error(
        "{0} is the store itself or one of the files beside it: give the copy a name of its own, best on another disk"
    )]
    OfTheStore(PathBuf),
    /// There is no folder for it.
    #[error("there is no folder {folder} ({source}): make it, or name a file in one that is there")]
    NoFolder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another backup is at work on it.
    #[error("another backup is writing {0}: wait for it, or give this one another name")]
    Running(PathBuf),
    /// The copy doesn't fit.
    #[error(
        "no room for the copy in {folder}: it takes {needed} bytes, and {free} may be taken (on the disk of the store \
         the broker's room is left alone): take a folder on another disk, or make room"
    )]
    NoRoom {
        /// The folder.
        folder: PathBuf,
        /// Bytes that the copy takes.
        needed: u64,
        /// Bytes that it may take.
        free: u64,
    },
    /// The disk filled up meanwhile.
    #[error("the disk of {0} is full: take a folder on another disk, or make room")]
    Full(PathBuf),
    /// SQLite finds fault with the copy, and so with the store.
    #[error("the store is damaged: its copy fails SQLite's check ({0}): put back an earlier backup")]
    Damaged(String),
    /// Somebody has stopped it.
    #[error("stopped by a signal before the copy was whole")]
    Stopped,
    /// A file or folder.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What the copy holds is not what a broker would open.
    #[error("a broker would not open this copy: {0}")]
    Store(#[from] StoreError),
    /// SQLite.
    #[error("{doing}: {source}")]
    Sqlite {
        /// What was being done.
        doing: &'static str,
        /// What it said.
        #[source]
        source: rusqlite::Error,
    },
}

pub(super) type Result<T> = std::result::Result<T, BackupError>;

/// Says what was being done when SQLite refused.
pub(super) trait During<T> {
    fn during(self, doing: &'static str) -> Result<T>;
}

impl<T> During<T> for std::result::Result<T, rusqlite::Error> {
    fn during(self, doing: &'static str) -> Result<T> {
        self.map_err(|source| match source.sqlite_error_code() {
            // By nobody but the watcher.
            Some(ErrorCode::OperationInterrupted) => BackupError::Stopped,
            Some(ErrorCode::DatabaseCorrupt) => BackupError::Damaged(source.to_string()),
            _ => BackupError::Sqlite { doing, source },
        })
    }
}

/// For `map_err` on what the system refuses.
pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File { path, source }
}
