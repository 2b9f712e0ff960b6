//! SQLite, in a file and in memory.

use agentwrit_store::testing::suite::Opener;
use agentwrit_store::{Declared, Installation, Result, Store, StoreLocation, Surroundings};
use agentwrit_store_sqlite::{OpenOptions, SqliteStore};
use async_trait::async_trait;
use tempfile::TempDir;

use crate::subject::{Kind, Place};

struct Embedded {
    folder: TempDir,
    in_memory: bool,
}

impl Embedded {
    fn place(in_memory: bool) -> Box<dyn Place> {
        Box::new(Self {
            folder: tempfile::tempdir().unwrap(),
            in_memory,
        })
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

impl Place for Embedded {
    fn replicas(&self) -> usize {
        1
    }

    fn opener(&self, _: usize) -> &dyn Opener {
        self
    }
}

/// SQLite in a file.
#[derive(Debug)]
pub(crate) struct File;

impl Kind for File {
    fn place(_: bool) -> Box<dyn Place> {
        Embedded::place(false)
    }
}

/// SQLite in memory.
#[derive(Debug)]
pub(crate) struct Memory;

impl Kind for Memory {
    fn place(_: bool) -> Box<dyn Place> {
        Embedded::place(true)
    }
}
