//! The embedded store: SQLite in one file (WAL, `synchronous=FULL`) or in memory.
#![deny(missing_docs)]

mod audit;
mod backup;
mod columns;
mod committer;
mod disk;
mod error;
mod facts;
mod handle;
mod identity;
mod indexes;
mod moving;
mod open;
mod options;
mod readers;
mod restored;
mod revocation_changes;
mod rows;
mod schema;
mod shared;
mod statements;
mod status;
mod transaction;
mod tx;
mod upkeep;

pub use agentwrit_store::Declared;
pub use backup::{BackupError, Copied, Stage, Watcher, backup};
pub use handle::SqliteStore;
pub use moving::{Departing, DepartureError};
pub use options::OpenOptions;
pub use readers::READERS;
