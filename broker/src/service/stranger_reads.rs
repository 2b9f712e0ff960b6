//! Reads of the store for callers that showed no credential yet.

use agentwrit_server::{Source, Turns};
use agentwrit_store::{Result, StoreError};
use agentwrit_store_sqlite::READERS;

/// Reads at once: one of the store's readers stays for callers that are known.
const AT_ONCE: usize = READERS - 1;
const MAX_WAITING: usize = 1_024;

/// Sources take turns.
pub(crate) struct StrangerReads(Turns);

impl StrangerReads {
    pub(crate) fn new() -> Self {
        Self(Turns::new(AT_ONCE, MAX_WAITING))
    }

    /// Waits for a turn, then reads. An error also when too many wait.
    pub(crate) async fn read<T>(&self, source: Source, reading: impl Future<Output = Result<T>>) -> Result<T> {
        let _turn = self.0.acquire(source).await.map_err(|_| StoreError::QueueFull)?;
        reading.await
    }
}
