//! The file that remembers where the store stood.
//!
//! It is written after the commits that it tells of: behind the store is normal, ahead of it is a store that was put
//! back from a copy.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use agentwrit_protocol::StoreMark;
use agentwrit_protocol::file_names::beside;
use agentwrit_store::{Remembered, Result, StoreError};
use parking_lot::Mutex;

use crate::files::sync_folder_of;

/// A mark is some 140 bytes; more than this is none.
const LONGEST: u64 = 1024;

#[derive(Debug, Default)]
struct Kept {
    written: Option<StoreMark>,
    failing: bool,
}

/// The file.
#[derive(Debug)]
pub struct MarkFile {
    path: PathBuf,
    kept: Mutex<Kept>,
}

impl MarkFile {
    /// The file at this path.
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            kept: Mutex::default(),
        }
    }

    /// What it says. One that holds no mark may have held any, so it isn't taken for none.
    ///
    /// # Errors
    /// What the system says when it can't read a file that may be there: that tells nothing of the store.
    pub fn read(&self) -> Result<Remembered> {
        match text_of(&self.path) {
            Ok(text) => Ok(Remembered::from_text(text.trim_end())),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound => Ok(Remembered::Nothing),
                // It is no text.
                io::ErrorKind::InvalidData => Ok(Remembered::Unreadable(error.to_string())),
                _ => Err(StoreError::Mark {
                    path: self.path.display().to_string(),
                    source: error,
                }),
            },
        }
    }

    /// Writes what `present` says at this moment, durably, unless the file says so already. The log tells when that
    /// fails, and when it works again.
    pub fn keep(&self, present: impl FnOnce() -> StoreMark) {
        let mut kept = self.kept.lock();
        // Asked under the lock, so that a later mark is never overwritten by an earlier one.
        let mark = present();
        if kept.written.as_ref() == Some(&mark) {
            return;
        }
        let path = self.path.display();
        match write(&self.path, &mark) {
            Ok(()) => {
                if std::mem::take(&mut kept.failing) {
                    tracing::info!(target: "STORE", component = "Mark", %path, "the store's mark can be written again");
                }
                kept.written = Some(mark);
            }
            Err(error) if !kept.failing => {
                kept.failing = true;
                tracing::warn!(target: "STORE", component = "Mark", %path, %error,
                    "the store's mark can't be written: a store that is put back from a copy may not be noticed; \
                     name a file in a folder that can be written to in AA_STORE_MARK");
            }
            Err(_) => {}
        }
    }
}

fn text_of(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    io::Read::read_to_string(&mut io::Read::take(file, LONGEST), &mut text)?;
    Ok(text)
}

/// Replaces the file as a whole: a crash leaves the one or the other.
fn write(path: &Path, mark: &StoreMark) -> io::Result<()> {
    let fresh = beside(path, ".new");
    let mut file = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(mark.text().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    drop(file);
    fs::rename(&fresh, path)?;
    sync_folder_of(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(sequence: i64) -> StoreMark {
        StoreMark {
            epoch: "0f".repeat(16),
            sequence,
            head: "a1".repeat(32),
        }
    }

    #[test]
    fn the_file_says_what_was_kept_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark");
        let file = MarkFile::at(&path);
        assert_eq!(file.read().unwrap(), Remembered::Nothing);
        for sequence in [1, 2, 2] {
            file.keep(|| mark(sequence));
            assert_eq!(MarkFile::at(&path).read().unwrap(), Remembered::Mark(mark(sequence)));
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn an_unchanged_mark_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark");
        let file = MarkFile::at(&path);
        file.keep(|| mark(1));
        fs::remove_file(&path).unwrap();
        file.keep(|| mark(1));
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_holds_no_mark_is_not_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark");
        let long = format!("{}{}", mark(1).text(), " ".repeat(2000));
        for content in [b"".as_slice(), b"{", b"\xff", mark(-1).text().as_bytes(), b"[]"] {
            fs::write(&path, content).unwrap();
            assert!(
                matches!(MarkFile::at(&path).read(), Ok(Remembered::Unreadable(_))),
                "{content:?}"
            );
        }
        fs::write(&path, long).unwrap();
        assert_eq!(MarkFile::at(&path).read().unwrap(), Remembered::Mark(mark(1)));
    }

    #[test]
    fn a_mark_that_the_system_cant_read_is_no_evidence() {
        let folder = tempfile::tempdir().unwrap();
        let error = MarkFile::at(folder.path()).read().unwrap_err();
        assert!(matches!(error, StoreError::Mark { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(&*folder.path().to_string_lossy()) && text.contains("AA_STORE_MARK"),
            "{text}"
        );
    }

    #[test]
    fn a_folder_that_takes_no_file_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("later").join("mark");
        let file = MarkFile::at(&path);
        file.keep(|| mark(1));
        assert_eq!(file.read().unwrap(), Remembered::Nothing);
        fs::create_dir(folder.path().join("later")).unwrap();
        file.keep(|| mark(1));
        assert_eq!(file.read().unwrap(), Remembered::Mark(mark(1)));
    }
}
