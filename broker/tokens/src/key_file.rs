//! The file of a signing key: a PEM block `PRIVATE KEY` with an Ed25519 key in PKCS#8.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use agentwrit_protocol::ed25519_pkcs8::private_key_pem;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey;

use crate::key_pair::{KeyPair, RefusedKey};

/// Why there is no signing key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// `AA_SIGNING_KEY_REQUIRED` and no file.
    #[error("signing key: {path} does not exist and AA_SIGNING_KEY_REQUIRED is true")]
    Missing {
        /// The file.
        path: String,
    },
    /// `AA_SIGNING_KEY_REQUIRED` and a folder without a key.
    #[error("signing key: the folder {path} has no file that ends with .key and AA_SIGNING_KEY_REQUIRED is true")]
    NoneInFolder {
        /// The folder.
        path: String,
    },
    /// More files than a key set is made of.
    #[error(
        "signing key: the folder {path} has {found} files that end with .key: remove those of retired keys, at most {most} may be there"
    )]
    TooMany {
        /// The folder.
        path: String,
        /// Files that were found.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// The file can't be read or made.
    #[error("signing key: {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file holds something else.
    #[error("signing key: {path} must be a PEM block PRIVATE KEY with an Ed25519 key in PKCS#8")]
    Format {
        /// The file.
        path: String,
    },
    /// No randomness to make one.
    #[error("signing key: {0}")]
    Entropy(#[from] agentwrit_protocol::EntropyError),
    /// The cryptographic library refused it.
    #[error("signing key: {0}")]
    Refused(#[from] RefusedKey),
}

impl KeyError {
    pub(crate) fn of(path: &Path, source: io::Error) -> Self {
        Self::File {
            path: path.display().to_string(),
            source,
        }
    }
}

/// The key of the file; `None` when there is no file.
pub(crate) fn read(path: &Path) -> Result<Option<KeyPair>, KeyError> {
    let format = || KeyError::Format {
        path: path.display().to_string(),
    };
    match fs::read_to_string(path) {
        Ok(pem) => {
            let key = SigningKey::from_pkcs8_pem(pem.trim()).map_err(|_| format())?;
            Ok(Some(KeyPair::new(key.as_bytes())?))
        }
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) if source.kind() == io::ErrorKind::InvalidData => Err(format()),
        Err(source) => Err(KeyError::of(path, source)),
    }
}

/// Writes a new key file, durably, readable by its owner only. It appears under its name when it is complete: after a
/// crash there is the whole key or none. A file that is there is never replaced.
pub(crate) fn write_new(path: &Path, seed: &[u8; 32]) -> io::Result<()> {
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
