//! The suite that every implementation of the store has to pass, on a file and in memory.

#![allow(clippy::unwrap_used, reason = "tests")]

use agentwrit_store::testing::suite::Opener;
use agentwrit_store::{Installation, Result, Store, StoreLocation, Surroundings};
use agentwrit_store_sqlite::{Declared, OpenOptions, SqliteStore};
use async_trait::async_trait;
use tempfile::TempDir;

struct Embedded {
    folder: TempDir,
    in_memory: bool,
}

impl Embedded {
    fn new(in_memory: bool) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            in_memory,
        }
    }
}

#[async_trait]
impl Opener for Embedded {
    async fn open_as(&self, surroundings: Surroundings, ours: Installation, declared: Declared) -> Result<Store> {
        let mut options = OpenOptions {
            installation: ours,
            declared,
            ..OpenOptions::in_folder(self.folder.path())
        };
        if self.in_memory {
            options.location = StoreLocation::Memory;
        }
        Ok(Store::new(SqliteStore::open(options, surroundings).await?))
    }
}

mod file {
    agentwrit_store::store_suite!(super::Embedded::new(false));
    agentwrit_store::lasting_store_suite!(super::Embedded::new(false));
}

mod memory {
    agentwrit_store::store_suite!(super::Embedded::new(true));
}
