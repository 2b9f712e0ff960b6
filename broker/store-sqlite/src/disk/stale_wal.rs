//! A WAL beside a store that isn't its own.
//!
//! A copy is put back over a store whose broker was killed, and the WAL of that store is left beside it: SQLite would take
//! its pages for the copy's, and the file would be of both, or of neither.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;

use agentwrit_protocol::file_names::beside;
use agentwrit_store::{Result, StoreError};

/// Where the header of a database begins, and its bytes 18 and 19 in a file without a WAL
/// (<https://www.sqlite.org/fileformat.html#file_format_version_numbers>).
const MAGIC: &[u8] = b"SQLite format 3\0";
const WITHOUT_WAL: &[u8] = &[1, 1];
const VERSIONS: std::ops::Range<usize> = 18..20;

/// Removes the WAL beside a store that says it has none, as copies of `agentwrit-broker backup` do and no store that a
/// broker has opened. Whether there was one.
///
/// For a process that hasn't opened the store yet: to close the file takes away the locks of its readers (fcntl(2)).
///
/// # Errors
/// When it is there and can't be removed, or the store can't be read: opening it would then destroy the copy.
pub(crate) fn remove(store: &Path) -> Result<bool> {
    let wal = beside(store, "-wal");
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |source| StoreError::File { path, source }
    };
    if !wal.try_exists().map_err(failed(&wal))? || !is_without_wal(store).map_err(failed(store))? {
        return Ok(false);
    }
    for path in [wal, beside(store, "-shm")] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&path)(error)),
            _ => {}
        }
    }
    Ok(true)
}

fn is_without_wal(store: &Path) -> std::io::Result<bool> {
    let mut header = Vec::new();
    let most = u64::try_from(VERSIONS.end).unwrap_or_default();
    File::open(store)?.take(most).read_to_end(&mut header)?;
    Ok(header.starts_with(MAGIC) && header.get(VERSIONS) == Some(WITHOUT_WAL))
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn only_a_file_that_says_it_has_none_loses_its_wal() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("data.db");
        let wal = beside(&store, "-wal");
        let shm = beside(&store, "-shm");
        assert!(!remove(&store).unwrap(), "nothing is there");
        for (mode, removed) in [("WAL", false), ("DELETE", true)] {
            let connection = Connection::open(&store).unwrap();
            connection
                .execute_batch(&format!("PRAGMA journal_mode = {mode}; CREATE TABLE {mode}_made (x);"))
                .unwrap();
            connection.close().unwrap();
            assert!(!remove(&store).unwrap(), "{mode}: no WAL is there");
            for path in [&wal, &shm] {
                fs::write(path, "of another store").unwrap();
            }
            assert_eq!(remove(&store).unwrap(), removed, "{mode}");
            assert_eq!(wal.exists(), !removed, "{mode}");
            assert_eq!(shm.exists(), !removed, "{mode}");
            for path in [&wal, &shm] {
                fs::remove_file(path).ok();
            }
        }
        // What SQLite itself says of it is the better answer.
        for content in ["", "SQLite format 3", "something else that is long enough"] {
            fs::write(&store, content).unwrap();
            fs::write(&wal, "x").unwrap();
            assert!(!remove(&store).unwrap() && wal.exists(), "{content:?}");
        }
    }
}
