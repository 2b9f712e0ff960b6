//! Why `awrit init` wrote no configuration.

use std::path::PathBuf;

use agentwrit_protocol::EntropyError;

/// Why no configuration was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    /// Neither dev nor prod.
    #[error("invalid mode {0:?}: it must be dev or prod")]
    Mode(String),
    #[error("{} already exists; --force replaces it, and its secret is lost", .0.display())]
    Exists(PathBuf),
    /// It may point anywhere.
    #[error("{} is a symlink: refusing to write through it", .0.display())]
    Symlink(PathBuf),
    /// The path is no file's.
    #[error("{} is not the path of a file", .0.display())]
    NotAFile(PathBuf),
    #[error("can't write {}: {source}", path.display())]
    Write {
        /// The file or its folder.
        path: PathBuf,
        source: std::io::Error,
    },
    /// No secret can be made.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// No hash can be made.
    #[error("can't hash the secret: {0}")]
    Hash(#[from] bcrypt::BcryptError),
}
