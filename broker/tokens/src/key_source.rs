//! Where the private keys are: one file, or a folder of which every file that ends with `.key` is one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentwrit_protocol::Entropy;
use agentwrit_protocol::signing_keys::{FILE_SUFFIX, MOST_HELD, file_name};

pub use crate::key_file::KeyError;
use crate::key_file::{read, write_new};
use crate::key_pair::KeyPair;

/// A file, or a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// One key for ever.
    File(PathBuf),
    /// A key set that can be rotated. Also the volume of a Kubernetes Secret.
    Folder(PathBuf),
}

/// The keys that were found.
#[derive(Debug)]
pub struct HeldKeys {
    /// In the order of their ids.
    pub pairs: Vec<Arc<KeyPair>>,
    /// Whether one was made just now, since there was none.
    pub made: bool,
}

impl KeySource {
    /// A folder when there is one at this path, or the text ends with `/`.
    pub fn at(path: &Path) -> Self {
        let says_folder = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        // Without the slash, so that names beside it are names.
        let path: PathBuf = path.components().collect();
        if says_folder || path.is_dir() {
            Self::Folder(path)
        } else {
            Self::File(path)
        }
    }

    /// The file or the folder.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Folder(path) => path,
        }
    }

    /// Reads the keys, or makes the first.
    ///
    /// # Errors
    /// When a file can't be read or made, or holds something else; when there is none and one is `required`.
    pub fn load_or_create(&self, required: bool, entropy: &dyn Entropy) -> Result<HeldKeys, KeyError> {
        let pairs = self.load(required)?;
        if !pairs.is_empty() {
            return Ok(HeldKeys { pairs, made: false });
        }
        let (seed, pair) = generate(entropy)?;
        let path = match self {
            Self::File(path) => path.clone(),
            Self::Folder(folder) => folder.join(file_name(pair.kid())),
        };
        match write_new(&path, &seed) {
            Ok(()) => Ok(HeldKeys {
                pairs: vec![Arc::new(pair)],
                made: true,
            }),
            // Another process was quicker: its key is the key.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let pairs = self.load(true)?;
                Ok(HeldKeys { pairs, made: false })
            }
            Err(source) => Err(KeyError::of(&path, source)),
        }
    }

    /// Reads the keys; none is an error when one is `required`.
    ///
    /// # Errors
    /// When a file can't be read, or holds something else.
    pub fn load(&self, required: bool) -> Result<Vec<Arc<KeyPair>>, KeyError> {
        let pairs = match self {
            Self::File(path) => read(path)?.into_iter().map(Arc::new).collect(),
            Self::Folder(folder) => read_folder(folder)?,
        };
        if pairs.is_empty() && required {
            let path = self.path().display().to_string();
            return Err(match self {
                Self::File(_) => KeyError::Missing { path },
                Self::Folder(_) => KeyError::NoneInFolder { path },
            });
        }
        Ok(pairs)
    }

    /// Makes another key in the folder and answers its id; `None` of a file, which holds one, and where the folder is
    /// written by somebody else.
    ///
    /// # Errors
    /// When it can't be made, or there are too many.
    pub fn add(&self, entropy: &dyn Entropy) -> Result<Option<String>, KeyError> {
        let Self::Folder(folder) = self else { return Ok(None) };
        let found = names(folder)?.len();
        if found >= MOST_HELD {
            return Err(too_many(folder, found.saturating_add(1)));
        }
        let (seed, pair) = generate(entropy)?;
        let path = folder.join(file_name(pair.kid()));
        match write_new(&path, &seed) {
            Ok(()) => Ok(Some(pair.kid().to_owned())),
            Err(source) if is_others(&source) => Ok(None),
            Err(source) => Err(KeyError::of(&path, source)),
        }
    }

    /// Removes a key that [`Self::add`] or [`Self::load_or_create`] made in the folder; others, and those in a folder
    /// that somebody else writes, stay.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn remove(&self, kid: &str) -> Result<(), KeyError> {
        let Self::Folder(folder) = self else { return Ok(()) };
        // A kid that was read from a store may be anything.
        let is_plain = kid
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if !is_plain {
            return Ok(());
        }
        let path = folder.join(file_name(kid));
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound && !is_others(&source) => {
                Err(KeyError::of(&path, source))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a folder can't be written because it is somebody else's, as the volume of a Secret is.
fn is_others(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    )
}

fn generate(entropy: &dyn Entropy) -> Result<([u8; 32], KeyPair), KeyError> {
    let mut seed = [0_u8; 32];
    entropy.fill(&mut seed)?;
    Ok((seed, KeyPair::new(&seed)?))
}

fn too_many(folder: &Path, found: usize) -> KeyError {
    KeyError::TooMany {
        path: folder.display().to_string(),
        found,
        most: MOST_HELD,
    }
}

/// The files of a folder that may hold keys, but for hidden ones: a mounted Secret has its versions there.
fn names(folder: &Path) -> Result<Vec<PathBuf>, KeyError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(KeyError::of(folder, source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| KeyError::of(folder, source))?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if !name.starts_with(b".") && name.ends_with(FILE_SUFFIX.as_bytes()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn read_folder(folder: &Path) -> Result<Vec<Arc<KeyPair>>, KeyError> {
    let files = names(folder)?;
    if files.len() > MOST_HELD {
        return Err(too_many(folder, files.len()));
    }
    let mut pairs = Vec::with_capacity(files.len());
    for file in files {
        // Gone since it was listed: a Secret was swapped.
        pairs.extend(read(&file)?.map(Arc::new));
    }
    pairs.sort_by(|one, other| one.kid().cmp(other.kid()));
    // The same key under two names is one.
    pairs.dedup_by(|one, other| one.kid() == other.kid());
    Ok(pairs)
}

#[cfg(test)]
mod tests;
