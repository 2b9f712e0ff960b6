//! Indexes in status lists: which are held, and which bits are set. The rules are in `protocol::status_list`.

use std::collections::HashSet;

use agentwrit_protocol::UnixMillis;
use agentwrit_protocol::status_list::{StatusBit, StatusIndex};
use async_trait::async_trait;

use super::{Result, StoreError};

/// For the log, when something is refused because the lists are full.
pub const LISTS_FULL: &str = "all status lists are full: nothing is registered or delegated until indexes are free again, \
                              an hour or two after the last tokens of their sessions have expired";
/// For the log, when they are no longer.
pub const LISTS_FREE: &str = "status indexes are free again";

/// The index in a column; `None` in a row that has none.
///
/// # Errors
/// When the number is of no list.
pub fn stored_index(number: Option<i64>) -> Result<Option<StatusIndex>> {
    let index = |number| {
        StatusIndex::from_number(number).ok_or_else(|| StoreError::Corrupt {
            what: "status index",
            why: format!("{number} is of no list"),
        })
    };
    number.map(index).transpose()
}

/// The bits of rows with their indexes and moments, those that are kept longest first: of two with one index that is the
/// later one, which was opened when the other had given it back.
pub fn bits_of(rows: Vec<(Option<StatusIndex>, Option<UnixMillis>)>) -> Vec<StatusBit> {
    let mut seen = HashSet::new();
    let mut bits = Vec::new();
    for (index, set_at) in rows {
        let Some(index) = index.filter(|index| seen.insert(*index)) else {
            continue;
        };
        bits.extend(set_at.map(|from| StatusBit { index, from }));
    }
    bits
}

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
