//! Names of files that stand beside another file.

use std::path::{Path, PathBuf};

/// The file beside `path` whose name has this suffix appended.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The folder of a file; `.` for a bare file name.
pub fn folder_of(path: &Path) -> &Path {
    let named = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    named.unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_is_appended_to_the_whole_name() {
        assert_eq!(beside(Path::new("/data/x.db"), ".lock"), Path::new("/data/x.db.lock"));
    }

    #[test]
    fn a_bare_name_is_in_the_current_folder() {
        assert_eq!(folder_of(Path::new("x.db")), Path::new("."));
        assert_eq!(folder_of(Path::new("/data/x.db")), Path::new("/data"));
    }
}
