//! The status indexes in the rows of sessions.

use agentwrit_protocol::status_list::StatusBit;
use agentwrit_protocol::{SessionId, UnixMillis, UnixSeconds};
use agentwrit_store::session::freed_until;
use agentwrit_store::status::bits_of;
use agentwrit_store::{Result, Session, StatusLists};
use async_trait::async_trait;
use rusqlite::params;

use crate::columns;
use crate::error::Operation;
use crate::indexes::status_index;
use crate::statements::Statements;
use crate::tx::SqliteTx;

impl SqliteTx<'_> {
    /// All rows that are kept until less than this second hold no status index any more.
    pub(crate) fn swept_until(&self) -> UnixSeconds {
        let indexes = self.indexes.as_ref();
        indexes.map_or(UnixSeconds::new(i64::MIN), |indexes| indexes.swept_until())
    }

    /// Gives a session of an earlier schema an index, if there is one.
    pub(crate) fn give_status_index(&mut self, sid: &SessionId) -> Result<()> {
        let Some(indexes) = &mut self.indexes else {
            return Ok(());
        };
        if indexes.is_full() {
            return Ok(());
        }
        let sql = "UPDATE sessions SET status = ? WHERE sid = ? AND status IS NULL";
        let values = params![indexes.draw()?.number(), sid.as_str()];
        if self.connection.change("give_status_index", sql, values)? == 0 {
            indexes.give_back_last();
        }
        Ok(())
    }

    /// Sets the bits of all delegations below a session or a delegation from this moment on; an earlier one stays. Those
    /// whose tokens have expired by both clocks are left out, so that an end costs as much as there stands, and not as
    /// much as there ever was.
    pub(crate) fn set_bits_below(&self, session: &Session, from: UnixMillis) -> Result<()> {
        let (root, begins) = session.family()?;
        // What ended for another reason had its bit set for good then.
        let sql = "UPDATE sessions SET status_set_at = ?1 WHERE root = ?2 \
                   AND (ended_at IS NULL OR end_reason = 'superseded') AND last_exp >= ?3 \
                   AND (status_set_at IS NULL OR status_set_at > ?1) \
                   AND (?4 IS NULL OR substr(nodes, 1, length(?4)) = ?4)";
        let passed = self.times.passed().second();
        let values = params![from.get(), root.as_str(), passed.get(), begins];
        self.connection.change("set_status_bits", sql, values).map(drop)
    }
}

#[async_trait]
impl StatusLists for SqliteTx<'_> {
    async fn status_bits(&mut self) -> Result<Vec<StatusBit>> {
        const OPERATION: &str = "read_status_bits";
        let sql = "SELECT status, status_set_at FROM sessions WHERE kept_until > ? AND status IS NOT NULL \
                   ORDER BY kept_until DESC, id DESC";
        let rows = self
            .connection
            .all(OPERATION, sql, [freed_until(self.times.passed()).get()], |row| {
                let set_at = columns::any_millis(row, "status_set_at").during(OPERATION)?;
                Ok((status_index(row, "status", OPERATION)?, set_at))
            })?;
        Ok(bits_of(rows))
    }

    async fn free_status_indexes(&mut self) -> Result<u64> {
        match &mut self.indexes {
            Some(indexes) => indexes.sweep(self.connection, self.times.passed()),
            None => Ok(0),
        }
    }
}
