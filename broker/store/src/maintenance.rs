//! Keeping the store small.

use async_trait::async_trait;

use super::Result;

/// What is done now and then so that the store doesn't grow.
#[async_trait]
pub trait Maintenance {
    /// Removes some of what can never matter again, by both clocks, and returns how many rows that were; 0 when nothing
    /// is left. A session stays until its status index was given back: see
    /// [`free_status_indexes`](super::StatusLists::free_status_indexes).
    async fn prune(&mut self) -> Result<u64>;
    /// Brings some of the events, all but the last `keep`, into the short form in which the trail is kept, and returns how
    /// many were looked at; 0 when nothing is left.
    async fn shorten_trail(&mut self, keep: i64) -> Result<u64>;
}
