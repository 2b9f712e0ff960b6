//! Where a store lives.

use std::path::{Path, PathBuf};

/// Where a store lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLocation {
    /// One file, its WAL and its lock file beside it.
    File(PathBuf),
    /// Memory only, by choice (`AA_DB_PATH=""`) or because the file can't open.
    Memory,
}

impl StoreLocation {
    /// Its file; a store in memory has none.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Memory => None,
        }
    }
}
