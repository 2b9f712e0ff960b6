//! The embedded store: SQLite in one file (WAL, `synchronous=FULL`) or in memory.
#![deny(missing_docs)]

mod audit;
mod committer;
mod disk;
mod error;
mod handle;
mod jobs;
mod open;
mod options;
mod readers;
mod restored;
mod rows;
mod schema;
mod shared;
mod statements;
mod status;
mod transaction;
mod tx;
mod upkeep;

use futures_util::FutureExt;

pub use handle::SqliteStore;
pub use options::OpenOptions;
pub use readers::READERS;

use agentwrit_store::{Result, StoreError};
use tx::SqliteTx;

/// What a future answers that waits for nothing but the transaction: on this store each of those is a call of the library,
/// and ready at once. One that waits for anything else is a fault of its command, and must not hold up all others.
fn ready<T>(running: impl Future<Output = Result<T>>) -> Result<T> {
    running.now_or_never().unwrap_or(Err(StoreError::Waited))
}
