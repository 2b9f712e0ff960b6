//! The model's commands, given to the real stores: after each of them the store says what the model says.
//!
//! `AGENTWRIT_MODEL_CASES=2000 cargo test -p agentwrit-model --test store` tries more ways.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod attempt;
mod known;
mod reference;
mod subject;
mod upkeep;

use agentwrit_protocol::Ttl;
use agentwrit_store::testing::suite::Opener;
use agentwrit_store::{Declared, Installation, Result, Retention, Store, StoreLocation, Surroundings};
use agentwrit_store_sqlite::{OpenOptions, SqliteStore};
use async_trait::async_trait;
use proptest::test_runner::Config;
use proptest_state_machine::prop_state_machine;
use subject::{Driven, Kind};
use tempfile::TempDir;

struct Embedded {
    folder: TempDir,
    in_memory: bool,
}

impl Embedded {
    fn opener(in_memory: bool) -> Box<dyn Opener> {
        Box::new(Self {
            folder: tempfile::tempdir().unwrap(),
            in_memory,
        })
    }
}

#[async_trait]
impl Opener for Embedded {
    async fn open_as(&self, surroundings: Surroundings, ours: Installation, declared: Declared) -> Result<Store> {
        let file = |name: &str| self.folder.path().join(name);
        let location = if self.in_memory {
            StoreLocation::Memory
        } else {
            StoreLocation::File(file("data.db"))
        };
        let options = OpenOptions {
            location,
            required: true,
            mark: file("data.db.mark"),
            signing_key: file("signing.key"),
            key_is_new: true,
            max_ttl: Ttl::ZERO,
            retention: Retention::default(),
            installation: ours,
            declared,
        };
        Ok(Store::new(SqliteStore::open(options, surroundings).await?))
    }
}

/// SQLite in a file.
#[derive(Debug)]
struct File;

#[async_trait]
impl Kind for File {
    async fn opener() -> Box<dyn Opener> {
        Embedded::opener(false)
    }
}

/// SQLite in memory.
#[derive(Debug)]
struct Memory;

#[async_trait]
impl Kind for Memory {
    async fn opener() -> Box<dyn Opener> {
        Embedded::opener(true)
    }
}

/// Few cases by default: each is a store of its own and up to 60 steps.
fn config(cases: u32) -> Config {
    let asked = std::env::var("AGENTWRIT_MODEL_CASES");
    Config {
        cases: asked.ok().and_then(|text| text.parse().ok()).unwrap_or(cases),
        ..Config::default()
    }
}

prop_state_machine! {
    #![proptest_config(config(32))]
    #[test]
    fn a_store_in_memory_does_what_the_model_does(sequential 1..60 => Driven<Memory>);
}

prop_state_machine! {
    #![proptest_config(config(16))]
    #[test]
    fn a_store_in_a_file_does_what_the_model_does(sequential 1..60 => Driven<File>);
}
