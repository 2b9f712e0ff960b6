//! A server that the tests of a program share, and a database for each of them.

use std::sync::OnceLock;

use agentwrit_protocol::Ttl;
use agentwrit_store::testing::suite::Opener;
use agentwrit_store::{Declared, Installation, Retention, Store, Surroundings};
use async_trait::async_trait;
use tempfile::TempDir;

use super::{Durability, Server};
use crate::{OpenOptions, PostgresStore, Settings};

/// The server of this program.
pub fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(Durability::Fast))
}

/// An empty database, and the folder of a mark.
pub struct Database {
    /// Its name on [`server`].
    pub name: String,
    /// The folder.
    pub folder: TempDir,
}

impl Database {
    /// Makes both.
    #[allow(clippy::new_without_default, reason = "it makes something on a server")]
    pub fn new() -> Self {
        Self {
            name: server().database(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Runs SQL as the owner of all.
    ///
    /// # Errors
    /// What psql says.
    pub fn sql(&self, sql: &str) -> Result<String, String> {
        server().sql(&self.name, sql)
    }

    /// How the owner reaches it.
    pub fn settings(&self) -> Settings {
        server().settings(&self.name)
    }

    /// How a new store is opened on it.
    pub fn options(&self) -> OpenOptions {
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
