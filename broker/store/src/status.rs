//! Indexes in status lists: which are held, and which bits are set. The rules are in `protocol::status_list`.

use agentwrit_protocol::status_list::StatusBit;
use async_trait::async_trait;

use super::Result;

/// For the log, when something is refused because the lists are full.
pub const LISTS_FULL: &str = "all status lists are full: nothing is registered or delegated until indexes are free again, \
                              an hour or two after the last tokens of their sessions have expired";
/// For the log, when they are no longer.
pub const LISTS_FREE: &str = "status indexes are free again";

/// Repository of status indexes. [`super::Sessions::insert_session`] takes one, [`super::Sessions::end_session`] sets its
/// bit: no service has to think of it.
#[async_trait]
pub trait StatusLists {
    /// The bits that are set, or will be at a moment, of all indexes that are held. Of an index that two have held it is
    /// the bit of the later one.
    async fn status_bits(&mut self) -> Result<Vec<StatusBit>>;
    /// Gives some of the indexes back whose last token is long expired by both clocks
    /// (`protocol::status_list::free_from`), and returns how many sessions were looked at; 0 when there are none left.
    async fn free_status_indexes(&mut self) -> Result<u64>;
}
