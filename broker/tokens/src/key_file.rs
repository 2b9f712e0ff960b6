//! The file of the signing key: a PEM block `PRIVATE KEY` with an Ed25519 key in PKCS#8.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use agentwrit_protocol::Entropy;
use agentwrit_protocol::ed25519_pkcs8::private_key_pem;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey;

use crate::key_set::{KeyError, KeySet};

impl KeyError {
    fn of(path: &Path, source: io::Error) -> Self {
        Self::File {
            path: path.display().to_string(),
            source,
        }
    }
}

impl KeySet {
    /// Reads the key from its file, or makes it.
    ///
    /// # Errors
    /// When the file can't be read or made, or holds something else.
    pub fn load_or_create(path: &Path, required: bool, entropy: &dyn Entropy) -> Result<Self, KeyError> {
        if let Some(keys) = Self::load(path, required)? {
            return Ok(keys);
        }
        let mut seed = [0_u8; 32];
        entropy.fill(&mut seed)?;
        match write_new(path, &seed) {
            Ok(()) => {
                let mut keys = Self::new(&seed)?;
                keys.made = true;
                Ok(keys)
            }
            // Another process was quicker: its key is the key.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::load(path, true)?
                .ok_or(error)
                .map_err(|source| KeyError::of(path, source)),
            Err(source) => Err(KeyError::of(path, source)),
        }
    }

    /// Looks at the file without making it.
    ///
    /// # Errors
    /// As [`KeySet::load_or_create`] would, but for those of making it.
    pub fn check(path: &Path, required: bool) -> Result<(), KeyError> {
        Self::load(path, required).map(drop)
    }

    /// The key of the file; `None` when there is none and none is required.
    fn load(path: &Path, required: bool) -> Result<Option<Self>, KeyError> {
        let shown = || path.display().to_string();
        match fs::read_to_string(path) {
            Ok(pem) => {
                let key = SigningKey::from_pkcs8_pem(pem.trim()).map_err(|_| KeyError::Format { path: shown() })?;
                Self::new(key.as_bytes()).map(Some)
            }
            Err(source) if source.kind() == io::ErrorKind::NotFound && required => {
                Err(KeyError::Missing { path: shown() })
            }
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) if source.kind() == io::ErrorKind::InvalidData => Err(KeyError::Format { path: shown() }),
            Err(source) => Err(KeyError::of(path, source)),
        }
    }
}

/// Writes a new key file, durably, readable by its owner only. It appears under its name when it is complete: after a
/// crash there is the whole key or none. A file that is there is never replaced.
fn write_new(path: &Path, seed: &[u8; 32]) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let pem = private_key_pem(seed);
    let mut prefix = name.to_owned();
    prefix.push(".new-");
    let mut unfinished = tempfile::Builder::new().prefix(&prefix).make_in(folder, |path| {
        File::options().write(true).create_new(true).mode(0o600).open(path)
    })?;
    let file = unfinished.as_file_mut();
    file.write_all(pem.as_bytes())?;
    file.sync_all()?;
    unfinished.persist_noclobber(&path).map_err(|failure| failure.error)?;
    // A crash may undo the new name until its folder is synced too (fsync(2)).
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use agentwrit_protocol::clock::SequenceEntropy;
    use ed25519_dalek::pkcs8::EncodePrivateKey;
    use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;

    #[test]
    fn a_new_key_is_read_back_in_pkcs8_versions_1_and_2() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/signing.key");
        let made = KeySet::load_or_create(&path, false, &SequenceEntropy::default()).unwrap();
        let read = KeySet::load_or_create(&path, true, &SequenceEntropy::default()).unwrap();
        assert_eq!(made.kid(), read.kid());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let key = SigningKey::from_pkcs8_pem(fs::read_to_string(&path).unwrap().trim()).unwrap();
        fs::write(&path, key.to_pkcs8_pem(LineEnding::LF).unwrap().as_bytes()).unwrap();
        assert_eq!(
            KeySet::load_or_create(&path, true, &SequenceEntropy::default())
                .unwrap()
                .kid(),
            made.kid()
        );
    }

    #[test]
    fn a_key_file_is_whole_or_absent_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing.key");
        let made = KeySet::load_or_create(&path, false, &SequenceEntropy::default()).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
        let before = fs::read(&path).unwrap();
        let refused = write_new(&path, &[7; 32]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        KeySet::check(&path, true).unwrap();
        assert_eq!(
            KeySet::load_or_create(&path, false, &SequenceEntropy::default())
                .unwrap()
                .kid(),
            made.kid()
        );
        let other = folder.path().join("other.key");
        KeySet::check(&other, false).unwrap();
        assert!(
            KeySet::check(&other, true).is_err() && !other.exists(),
            "looking makes nothing"
        );
    }

    #[test]
    fn a_missing_required_key_and_foreign_content_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing.key");
        assert!(matches!(
            KeySet::load_or_create(&path, true, &SequenceEntropy::default()),
            Err(KeyError::Missing { .. })
        ));
        for content in [
            "",
            "garbage",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            fs::write(&path, content).unwrap();
            let error = KeySet::load_or_create(&path, false, &SequenceEntropy::default()).unwrap_err();
            assert!(error.to_string().starts_with("signing key: "), "{error}");
        }
    }
}
