//! The note that a broker ran on memory because its store could not open.
//!
//! What was revoked meanwhile is not in the file. The next start with it finds the note and takes all tokens of before
//! for older than the store, whose revocations it can't know.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use agentwrit_protocol::file_names::beside;
use agentwrit_protocol::timestamp::rfc3339_seconds;
use agentwrit_store::StoreLocation;
use agentwrit_trail::sync_folder_of;
use time::OffsetDateTime;

/// Where the note is: beside the signing key, for the next start may name the right file where this one named a wrong
/// one; and beside the store, for another one with that key may be opened in between.
#[derive(Debug)]
pub(crate) struct MemoryRun {
    places: Vec<PathBuf>,
}

impl MemoryRun {
    /// The places beside a signing key and a store.
    pub(crate) fn beside(key: &Path, store: &StoreLocation) -> Self {
        let files = std::iter::once(key).chain(store.path());
        Self {
            places: files.map(|file| beside(file, ".ran-on-memory")).collect(),
        }
    }

    /// Whether there is a note, or may be one that can't be looked at.
    pub(crate) fn noted(&self) -> bool {
        self.places.iter().any(|place| place.try_exists().unwrap_or(true))
    }

    /// Leaves the note, durably, wherever it can.
    ///
    /// # Errors
    /// When none of the places can be written to.
    pub(crate) fn note(&self, now: OffsetDateTime) -> io::Result<()> {
        let text = format!(
            "Since {} a broker has run on memory, because its store could not open. The next start with the store \
             refuses all tokens of before, and removes this file.\n",
            rfc3339_seconds(now.into())
        );
        let mut noted = Err(io::Error::from(io::ErrorKind::NotFound));
        for place in &self.places {
            let written = write(place, &text);
            if noted.is_err() {
                noted = written;
            }
        }
        noted
    }

    /// Removes the note; one that stays makes the next start refuse older tokens again.
    pub(crate) fn forget(&self) {
        for place in &self.places {
            match fs::remove_file(place) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(target: "STORE", component = "InitDB", path = %place.display(), error = %error,
                        "remove this file, or each start refuses all tokens of before");
                }
            }
        }
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    sync_folder_of(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_is_beside_key_and_store_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let beside = |key: &str, store: &str| {
            let store = StoreLocation::File(folder.path().join(store));
            MemoryRun::beside(&folder.path().join(key), &store)
        };
        for (key, store) in [
            ("signing.key", "data.db"),
            ("not/there/signing.key", "data.db"),
            ("signing.key", "not/there/data.db"),
        ] {
            let run = beside(key, store);
            assert!(!run.noted());
            for _ in 0..2 {
                run.note(OffsetDateTime::UNIX_EPOCH).unwrap();
            }
            assert!(run.noted());
            run.forget();
            assert!(!run.noted() && fs::read_dir(&folder).unwrap().count() == 0);
        }
        let nowhere = beside("not/there/signing.key", "not/there/data.db");
        assert!(nowhere.note(OffsetDateTime::UNIX_EPOCH).is_err());
    }

    #[test]
    fn another_path_or_store_does_not_hide_the_note() {
        let folder = tempfile::tempdir().unwrap();
        let with = |store: &str| {
            let store = StoreLocation::File(folder.path().join(store));
            MemoryRun::beside(&folder.path().join("signing.key"), &store)
        };
        with("wrong/data.db").note(OffsetDateTime::UNIX_EPOCH).unwrap();
        assert!(with("data.db").noted(), "the right path after a wrong one");
        with("data.db").note(OffsetDateTime::UNIX_EPOCH).unwrap();
        with("other.db").forget();
        assert!(with("data.db").noted(), "another store was opened in between");
    }
}
