//! Where the store of a run is: a file in the broker's folder, or a database on a server of our own.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use agentwrit_store_postgres::testing::{Durability, Server};
use agentwrit_testkit::load::failure::{Failure, Result};
use rusqlite::Connection;

/// Which store the broker has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// A file in its folder.
    Sqlite,
    /// A database, on a server that writes through to the disk.
    Postgres,
}

/// The store of one broker.
#[derive(Clone)]
pub enum Store {
    /// A file in this folder.
    File(PathBuf),
    /// This database.
    Database(Arc<Server>, String),
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(folder) => write!(f, "File({})", folder.display()),
            Self::Database(_, name) => write!(f, "Database({name})"),
        }
    }
}

fn failed(error: &dyn fmt::Display) -> Failure {
    Failure::Broker(format!("look into a store: {error}"))
}

impl Store {
    /// A new one, for the broker in this folder.
    #[must_use]
    pub fn new(kind: Kind, folder: &Path) -> Self {
        match kind {
            Kind::Sqlite => Self::File(folder.to_owned()),
            Kind::Postgres => {
                let server = Server::start(Durability::Kept);
                let name = server.database();
                Self::Database(Arc::new(server), name)
            }
        }
    }

    /// A copy, for the broker in this folder, where the copy of a file is already. No broker may run on either.
    #[must_use]
    pub fn copy(&self, folder: &Path) -> Self {
        match self {
            Self::File(_) => Self::File(folder.to_owned()),
            Self::Database(server, name) => Self::Database(Arc::clone(server), server.copy_of(name)),
        }
    }

    /// What the broker is told of it.
    #[must_use]
    pub fn setting(&self) -> (&'static str, String) {
        match self {
            // Seen from its folder.
            Self::File(_) => ("AA_DB_PATH", "data.db".to_owned()),
            Self::Database(server, name) => ("AA_DATABASE_URL", server.url("owner", name)),
        }
    }

    /// Runs a statement past the broker, and answers how many rows it changed.
    ///
    /// # Errors
    /// What the store says.
    pub fn change(&self, statement: &str) -> Result<usize> {
        match self {
            Self::File(folder) => {
                let store = Connection::open(file(folder)).map_err(|error| failed(&error))?;
                store.execute(statement, []).map_err(|error| failed(&error))
            }
            Self::Database(..) => {
                let counted = format!("WITH changed AS ({statement} RETURNING 1) SELECT count(*) FROM changed");
                self.value(&counted)?.parse().map_err(|error| failed(&error))
            }
        }
    }

    /// The columns of a table but one, as a list.
    ///
    /// # Errors
    /// What the store says.
    pub fn columns(&self, table: &str, but: &str) -> Result<String> {
        self.value(&match self {
            Self::File(_) => {
                format!("SELECT group_concat(name, ', ') FROM pragma_table_info('{table}') WHERE name <> '{but}'")
            }
            Self::Database(..) => format!(
                "SELECT string_agg(column_name, ', ') FROM information_schema.columns \
                 WHERE table_schema = 'agentwrit' AND table_name = '{table}' AND column_name <> '{but}'"
            ),
        })
    }

    fn value(&self, question: &str) -> Result<String> {
        match self {
            Self::File(folder) => {
                let store = Connection::open(file(folder)).map_err(|error| failed(&error))?;
                store
                    .query_row(question, [], |row| row.get(0))
                    .map_err(|error| failed(&error))
            }
            // Past the triggers, as somebody could who has all rights.
            Self::Database(server, name) => server
                .sql(
                    name,
                    &format!("SET search_path = agentwrit; SET session_replication_role = replica; {question}"),
                )
                .map_err(|error| failed(&error)),
        }
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("data.db")
}

/// Runs a program of PostgreSQL to its end.
///
/// # Errors
/// What it says when it fails.
pub fn ran(mut command: Command, what: &'static str) -> Result<()> {
    let output = command.output().map_err(Failure::system(what))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::Broker(format!("{what}: {said}")))
}

/// A dump of a database, in the folder of its server.
///
/// # Errors
/// What `pg_dump` says.
pub fn dump(server: &Server, database: &str) -> Result<()> {
    let mut command = server.program("pg_dump");
    command.args(["--format=custom", "--file"]).arg(dumped(server));
    command.arg(database);
    ran(command, "pg_dump")
}

/// Puts the dump into another database, which takes the place of this one.
///
/// # Errors
/// What `pg_restore` or the server says.
pub fn put_back_dump(server: &Server, database: &str) -> Result<()> {
    let sql = |text: &str| {
        let done = server.sql("postgres", text);
        done.map_err(|said| Failure::Broker(format!("{text}: {said}")))
    };
    sql("CREATE DATABASE put_back")?;
    let mut command = server.program("pg_restore");
    command
        .args(["--exit-on-error", "--dbname=put_back"])
        .arg(dumped(server));
    ran(command, "pg_restore")?;
    sql(&format!("DROP DATABASE {database} WITH (FORCE)"))?;
    sql(&format!("ALTER DATABASE put_back RENAME TO {database}"))?;
    Ok(())
}

fn dumped(server: &Server) -> PathBuf {
    server.folder().join("dump")
}
