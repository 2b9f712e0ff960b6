//! Files that last.

use std::fs::File;
use std::io;
use std::path::Path;

use agentwrit_protocol::file_names::folder_of;

/// Makes it last that a file has its name: a crash may undo what only the file was synced for (fsync(2)).
///
/// # Errors
/// When the folder can't be synced.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}
