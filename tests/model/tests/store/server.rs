//! PostgreSQL: two replicas on one database, each behind a proxy that can lose its COMMITs.

use agentwrit_store::testing::suite::Opener;
use agentwrit_store::{Declared, Installation, Result, Store, Surroundings};
use agentwrit_store_postgres::testing::proxy::Proxy;
use agentwrit_store_postgres::testing::{Database, server};
use agentwrit_store_postgres::{OpenOptions, PostgresStore};
use async_trait::async_trait;
use tokio::runtime::Runtime;

use crate::reference::REPLICAS;
use crate::replica::runtime;
use crate::subject::{Kind, Place};

/// Where one replica is.
struct Seat {
    proxy: Proxy,
    options: OpenOptions,
}

#[async_trait]
impl Opener for Seat {
    async fn open_as(&self, surroundings: Surroundings, ours: Installation, declared: Declared) -> Result<Store> {
        let options = OpenOptions {
            installation: ours,
            declared,
            ..self.options.clone()
        };
        Ok(Store::new(PostgresStore::open(options, surroundings).await?))
    }
}

struct Seats {
    all: Vec<Seat>,
    database: Database,
    /// Of the proxies, which outlive the replicas.
    _runtime: Runtime,
}

impl Seats {
    fn new(is_deaf: bool) -> Self {
        let (database, runtime) = (Database::new(), runtime());
        let seat = |replica: usize| {
            let proxy = {
                let _on_it = runtime.enter();
                Proxy::start(server())
            };
            proxy.deafen(is_deaf);
            let options = OpenOptions {
                settings: proxy.settings(&database.name),
                // Each has its own, beside its key.
                mark: database.folder.path().join(format!("mark-{replica}")),
                ..database.options()
            };
            Seat { proxy, options }
        };
        Self {
            all: (0..REPLICAS).map(seat).collect(),
            database,
            _runtime: runtime,
        }
    }
}

impl Drop for Seats {
    fn drop(&mut self) {
        // Many cases would fill the disk.
        server().drop_database(&self.database.name);
    }
}

impl Place for Seats {
    fn replicas(&self) -> usize {
        self.all.len()
    }

    fn opener(&self, replica: usize) -> &dyn Opener {
        &self.all[replica]
    }

    fn proxy(&self, replica: usize) -> Option<&Proxy> {
        Some(&self.all[replica].proxy)
    }
}

/// PostgreSQL.
#[derive(Debug)]
pub(crate) struct Server;

impl Kind for Server {
    fn place(is_deaf: bool) -> Box<dyn Place> {
        Box::new(Seats::new(is_deaf))
    }
}
