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

/// What every statement has to keep true, whichever test it was for.
impl Drop for Database {
    fn drop(&mut self) {
        let sql = "SELECT count(*) FROM agentwrit.sessions WHERE open_root IS DISTINCT FROM \
                   CASE WHEN ended_at IS NULL OR end_reason = 'superseded' THEN root END";
        // A test may have left no such table, or no server.
        if let Ok(wrong) = self.sql(sql)
            && !std::thread::panicking()
        {
            assert_eq!(wrong.trim(), "0", "sessions whose open_root isn't what the row says");
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
