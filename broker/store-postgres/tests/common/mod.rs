//! A server that the tests of a program share, and a database for each of them.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::sync::OnceLock;

use agentwrit_protocol::Ttl;
use agentwrit_store::testing::suite::Opener;
use agentwrit_store::{Declared, Installation, Retention, Store, Surroundings};
use agentwrit_store_postgres::testing::{Durability, Server};
use agentwrit_store_postgres::{OpenOptions, PostgresStore, Settings};
use async_trait::async_trait;
use tempfile::TempDir;

/// The server of this program.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(Durability::Fast))
}

/// An empty database, and the folder of a mark.
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) folder: TempDir,
}

impl Database {
    pub(crate) fn new() -> Self {
        Self {
            name: server().database(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn sql(&self, sql: &str) -> Result<String, String> {
        server().sql(&self.name, sql)
    }

    pub(crate) fn settings(&self) -> Settings {
        server().settings(&self.name)
    }

    pub(crate) fn options(&self) -> OpenOptions {
        OpenOptions {
            settings: self.settings(),
            mark: self.folder.path().join("mark"),
            key_is_new: true,
            max_ttl: Ttl::ZERO,
            retention: Retention::default(),
            installation: Installation::default(),
            declared: Declared::default(),
        }
    }
}

#[async_trait]
impl Opener for Database {
    async fn open_as(
        &self,
        surroundings: Surroundings,
        ours: Installation,
        declared: Declared,
    ) -> agentwrit_store::Result<Store> {
        let options = OpenOptions {
            installation: ours,
            declared,
            ..self.options()
        };
        Ok(Store::new(PostgresStore::open(options, surroundings).await?))
    }
}
