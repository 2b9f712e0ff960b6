//! The token file: replaced as a whole, so that a reader sees the old token or the new one and nothing else.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use agentwrit_protocol::Sensitive;
use agentwrit_protocol::inject::ANNOTATION_TOKEN_FILE_GID;

use crate::agent::Found;
use crate::token::Issued;

/// Readable for every container that mounts the volume, writable for none.
const FOR_ALL: u32 = 0o444;
/// Readable for the members of its group.
const FOR_A_GROUP: u32 = 0o440;
const MAX_BYTES: u64 = 64 * 1024;

/// The file with the token, in a volume of its own.
#[derive(Debug, Clone)]
pub(crate) struct TokenFile {
    path: PathBuf,
    temporary: PathBuf,
    /// The group that alone may read it.
    group: Option<u32>,
}

impl TokenFile {
    /// The file at `path`, for this group or for everybody; `.new` beside it is ours as well.
    pub(crate) fn new(path: &Path, group: Option<u32>) -> Self {
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(".new");
        Self {
            path: path.to_owned(),
            temporary: path.with_file_name(name),
            group,
        }
    }

    /// What a former process left.
    pub(crate) fn find(&self) -> Found {
        let mut text = String::new();
        let read = File::open(&self.path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
        match read {
            Ok(_) => Issued::read(Sensitive::from(text.trim())).map_or(Found::Invalid, Found::Token),
            Err(error) if error.kind() == ErrorKind::NotFound => Found::Nothing,
            Err(_) => Found::Invalid,
        }
    }

    /// Replaces the file: a new one is written whole, synced, and renamed over the old.
    ///
    /// Fails when the volume can't be written; the old file then stays.
    pub(crate) fn write(&self, token: &Sensitive) -> std::io::Result<()> {
        // Left by a process that ended half-way.
        ignore_absent(std::fs::remove_file(&self.temporary))?;
        let replaced = self
            .create(token)
            .and_then(|()| std::fs::rename(&self.temporary, &self.path));
        if replaced.is_err() {
            // No part of a token stays behind. The first error is returned: it is the cause.
            let _ = std::fs::remove_file(&self.temporary);
        }
        replaced
    }

    fn create(&self, token: &Sensitive) -> std::io::Result<()> {
        let mode = if self.group.is_some() { FOR_A_GROUP } else { FOR_ALL };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&self.temporary)?;
        if let Some(group) = self.group {
            fchown(&file, None, Some(group)).map_err(|error| not_given(group, &error))?;
        }
        file.write_all(token.expose().as_bytes())?;
        // The process's umask may have taken bits away.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()
    }

    /// Removes the file, and a half-made new one that a former process left; what isn't there is no error.
    ///
    /// Fails when it is there and can't be removed.
    pub(crate) fn remove(&self) -> std::io::Result<()> {
        let removed = ignore_absent(std::fs::remove_file(&self.path));
        ignore_absent(std::fs::remove_file(&self.temporary)).and(removed)
    }
}

fn not_given(group: u32, error: &std::io::Error) -> std::io::Error {
    let text = format!(
        "the file can't be given to group {group} ({ANNOTATION_TOKEN_FILE_GID}): {error}; the pod's \
         securityContext.supplementalGroups must have it"
    );
    std::io::Error::new(error.kind(), text)
}

fn ignore_absent(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use agentwrit_protocol::UnixSeconds;
    use agentwrit_testkit::unsigned_token;

    use super::*;

    #[test]
    fn the_file_is_replaced_whole_and_readable_by_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let file = TokenFile::new(&path, None);
        assert!(matches!(file.find(), Found::Nothing));
        std::fs::write(folder.path().join(".token.new"), "half").unwrap();
        for jti in ["one", "two"] {
            let token = unsigned_token(100, 300, jti);
            file.write(&token).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), token.expose());
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o444);
        }
        let Found::Token(issued) = file.find() else {
            panic!("the token is not found")
        };
        assert_eq!(issued.exp, UnixSeconds::new(400));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        file.remove().unwrap();
        file.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_group_has_the_file_to_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        // A group that every process may give its files to: its own.
        let own = folder.path().metadata().unwrap().gid();
        TokenFile::new(&path, Some(own))
            .write(&unsigned_token(100, 300, "one"))
            .unwrap();
        let metadata = path.metadata().unwrap();
        assert_eq!((metadata.gid(), metadata.mode() & 0o777), (own, 0o440));
    }

    #[test]
    fn a_group_of_others_is_named() {
        let error = not_given(2000, &std::io::Error::from(ErrorKind::PermissionDenied));
        let right = "the file can't be given to group 2000 (agentwrit.io/token-file-gid): permission denied; the pod's \
                     securityContext.supplementalGroups must have it";
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::PermissionDenied, right)
        );
    }

    #[test]
    fn no_token_stays_in_the_half_made_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let file = TokenFile::new(&path, None);
        let left = || std::fs::read_dir(folder.path()).unwrap().count();
        std::fs::write(folder.path().join(".token.new"), "of a process that was killed").unwrap();
        file.remove().unwrap();
        assert_eq!(left(), 0);
        // A folder can't be replaced by a file: the write fails at its last step.
        std::fs::create_dir(&path).unwrap();
        assert!(file.write(&unsigned_token(100, 300, "one")).is_err());
        assert_eq!(left(), 1, "the folder alone");
    }

    #[test]
    fn rubbish_is_useless_and_a_missing_folder_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, b"\xff\xfe").unwrap();
        assert!(matches!(TokenFile::new(&path, None).find(), Found::Invalid));
        std::fs::write(&path, "").unwrap();
        assert!(matches!(TokenFile::new(&path, None).find(), Found::Invalid));
        assert!(
            TokenFile::new(Path::new("/nonexistent/token"), None)
                .write(&Sensitive::from("x"))
                .is_err()
        );
    }
}
