//! Why a store can't be moved.

use std::io;
use std::path::{Path, PathBuf};

use agentwrit_store::StoreError;

/// Why a store can't be moved; its file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum DepartureError {
    /// There is no store.
    #[error("there is no store {path} ({source}): --from sqlite:PATH names the file of the broker")]
    NoStore {
        /// Where one should be.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("{path} is no store of a broker ({why}): --from sqlite:PATH names the file of the broker")]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// By what it is seen.
        why: &'static str,
    },
    /// A broker uses it.
    #[error(
        "{path} is held by a broker, or by another migrate: stop it first, since what it writes from now on would be lost; in \
         a cluster, scale the StatefulSet to 0"
    )]
    Held {
        /// The lock file.
        path: String,
    },
    /// An earlier program made it.
    #[error(
        "{path} has schema {version}, and this program moves schema {known}: start this version's broker with the file once, \
         which brings it up to date, and stop it"
    )]
    Older {
        /// The store.
        path: PathBuf,
        /// Its schema.
        version: i64,
        /// The one that is moved.
        known: usize,
    },
    /// A later program has changed its schema.
    #[error(
        "{path} has schema {version}, and this program knows those up to {known}: move it with the program that ran the \
         store, or a later one"
    )]
    Newer {
        /// The store.
        path: PathBuf,
        /// Its schema.
        version: i64,
        /// The latest that is known.
        known: usize,
    },
    /// It doesn't know all that was revoked.
    #[error(
        "a broker ran on memory since this store was last open (a file .ran-on-memory beside {path} or beside the signing key \
         says so), and what was revoked then is not in it: start a broker with the file once, which refuses all tokens of \
         before, and stop it"
    )]
    RanOnMemory {
        /// The store.
        path: PathBuf,
    },
    /// It was moved before.
    #[error("{path} was moved to {to} already, and there is nothing in it that isn't there")]
    Gone {
        /// The store.
        path: PathBuf,
        /// Where to, and when.
        to: String,
    },
    /// Who takes what it holds has given up.
    #[error("nobody takes what {0} holds any more")]
    Abandoned(PathBuf),
    /// What it holds isn't what a broker would open, or can't be read.
    #[error("{path} can't be moved: {source}")]
    Store {
        /// The store.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: StoreError,
    },
}

pub(super) type Result<T> = std::result::Result<T, DepartureError>;

/// For `map_err` on what the store says.
pub(super) fn store(path: &Path) -> impl Fn(StoreError) -> DepartureError {
    let path = path.to_owned();
    move |source| match source {
        StoreError::Locked { path } => DepartureError::Held { path },
        source => DepartureError::Store {
            path: path.clone(),
            source,
        },
    }
}
