//! Names of files: beside another file, and durable.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The file beside `path` whose name has this at its end too.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The folder of a file.
pub(crate) fn folder_of(path: &Path) -> &Path {
    let named = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    named.unwrap_or_else(|| Path::new("."))
}

/// Makes it last that a file has its name: a crash may undo what only the file was synced for (fsync(2)).
///
/// # Errors
/// When the folder can't be synced.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}
