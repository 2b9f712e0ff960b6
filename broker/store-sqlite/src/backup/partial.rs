//! The file that a copy is written to before it is whole.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use agentwrit_protocol::file_names::{beside, folder_of};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::error::{BackupError, During, Result, file};
use crate::disk::space::room_for_copy;
use agentwrit_trail::sync_folder_of;

const OWNER_ONLY: u32 = 0o600;
/// What SQLite and the broker put beside a store.
const BESIDE: [&str; 6] = ["-wal", "-shm", "-journal", ".lock", ".reserve", ".ran-on-memory"];
/// What SQLite puts beside the copy for a moment.
const OF_SQLITE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Refuses a name that can't be the copy's, before anything is done.
pub(super) fn check(target: &Path, store: &Path) -> Result<()> {
    let folder = folder_of(target);
    let no_folder = |source| BackupError::NoFolder {
        folder: folder.to_owned(),
        source,
    };
    let real = fs::canonicalize(folder).map_err(no_folder)?;
    if !real.is_dir() {
        return Err(no_folder(io::Error::from(ErrorKind::NotADirectory)));
    }
    let Some(name) = target.file_name() else {
        return Err(BackupError::Exists(target.to_owned()));
    };
    let real = real.join(name);
    let own = fs::canonicalize(store).map_err(file(store))?;
    let is_beside = BESIDE.iter().any(|suffix| beside(&own, suffix) == real);
    let inode = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    if is_beside || real == own || inode(target).is_some_and(|one| Some(one) == inode(store)) {
        return Err(BackupError::OfTheStore(target.to_owned()));
    }
    // A link that leads nowhere is there, too.
    match fs::symlink_metadata(target) {
        Ok(_) => Err(BackupError::Exists(target.to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(file(target)(error)),
    }
}

/// The file `<target>.partial`, locked; removed unless it is finished.
pub(super) struct Partial {
    target: PathBuf,
    path: PathBuf,
    file: File,
    /// Whether it has its own name by now.
    named: bool,
}

impl Partial {
    /// Makes it, or takes over what a backup has left that was killed.
    pub(super) fn create(target: &Path, store: &Path, bytes: u64) -> Result<Self> {
        let folder = folder_of(target);
        let free = room_for_copy(target, store).map_err(|error| file(folder)(error.into()))?;
        if bytes > free {
            return Err(BackupError::NoRoom {
                folder: folder.to_owned(),
                needed: bytes,
                free,
            });
        }
        let path = beside(target, ".partial");
        let opened = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(OWNER_ONLY)
            // Somebody else's folder may hold a link in its place.
            .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default())
            .open(&path)
            .map_err(file(&path))?;
        match opened.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(BackupError::Running(target.to_owned())),
            Err(TryLockError::Error(source)) => return Err(BackupError::File { path, source }),
        }
        // The one that held it may have finished just now: this is then its copy, under its own name.
        let inode = |found: io::Result<fs::Metadata>| found.map(|found| (found.dev(), found.ino())).ok();
        if inode(fs::symlink_metadata(&path)) != inode(opened.metadata()) {
            return Err(BackupError::Running(target.to_owned()));
        }
        let partial = Self {
            target: target.to_owned(),
            path,
            file: opened,
            named: false,
        };
        partial.file.set_len(0).map_err(file(&partial.path))?;
        let owner_only = Permissions::from_mode(OWNER_ONLY);
        partial.file.set_permissions(owner_only).map_err(file(&partial.path))?;
        partial.remove_beside();
        Ok(partial)
    }

    /// A connection that fills it; what lasts is synced here.
    pub(super) fn connect(&self) -> Result<Connection> {
        const OPEN: &str = "open the copy";
        let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_READ_WRITE;
        let connection = Connection::open_with_flags(&self.path, flags).during(OPEN)?;
        connection
            .execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
            .during(OPEN)?;
        Ok(connection)
    }

    /// What a failed step was about: the copy's disk, or the store.
    pub(super) fn failed(&self, error: rusqlite::Error) -> BackupError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => BackupError::Full(folder_of(&self.target).to_owned()),
            Some(ErrorCode::DatabaseCorrupt) => BackupError::Damaged(error.to_string()),
            _ => BackupError::Sqlite {
                doing: "copy the store",
                source: error,
            },
        }
    }

    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(file(&self.path))
    }

    /// Gives the whole copy its name, for good; its size.
    pub(super) fn finish(mut self) -> Result<u64> {
        self.file.sync_all().map_err(file(&self.path))?;
        let bytes = self.file.metadata().map_err(file(&self.path))?.len();
        let renamed = match renameat_with(CWD, &self.path, CWD, &self.target, RenameFlags::NOREPLACE) {
            // A file system that can't promise it (NFS, some FUSE ones): the look of `check` has to do.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => fs::rename(&self.path, &self.target),
            other => other.map_err(io::Error::from),
        };
        match renamed {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(BackupError::Exists(self.target.clone())),
            Err(error) => Err(file(&self.target)(error)),
            Ok(()) => {
                self.named = true;
                sync_folder_of(&self.target).map(|()| bytes).map_err(file(&self.target))
            }
        }
    }

    fn remove_beside(&self) {
        for suffix in OF_SQLITE {
            remove(&beside(&self.path, suffix));
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.named {
            remove(&self.path);
            self.remove_beside();
        }
    }
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::debug!(target: "STORE", component = "Backup", path = %path.display(), %error, "a part of a copy stays");
        }
        _ => {}
    }
}
