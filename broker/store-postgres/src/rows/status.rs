//! The status indexes in the rows of sessions.

use agentwrit_protocol::status_list::{StatusBit, StatusIndex};
use agentwrit_protocol::{SessionId, UnixMillis};
use agentwrit_store::session::freed_until;
use agentwrit_store::status::{bits_of, stored_index};
use agentwrit_store::{Result, Session, StatusLists};
use async_trait::async_trait;

use crate::row::Row;
use crate::tx::PgTx;
use crate::value::{Value, values};

/// The index in a row; `None` in one that came from a store without them.
pub(crate) fn status_index(row: &Row<'_>) -> Result<Option<StatusIndex>> {
    stored_index(row.any_whole("status")?)
}

impl PgTx<'_, '_> {
    /// Draws an index for a session that is inserted next.
    pub(crate) async fn draw_status_index(&mut self) -> Result<Option<StatusIndex>> {
        match &mut self.indexes {
            Some(indexes) => indexes.draw(self.link, self.shared).await.map(Some),
            // The transaction takes no insertion either.
            None => Ok(None),
        }
    }

    /// Gives a session that has none an index, if there is one.
    pub(crate) async fn give_status_index(&mut self, sid: &SessionId) -> Result<()> {
        if self.indexes.as_ref().is_none_or(|indexes| indexes.is_full()) {
            return Ok(());
        }
        let index = self.draw_status_index().await?;
        let sql = "UPDATE sessions SET status = $1 WHERE sid = $2 AND status IS NULL";
        let values = values![index.map(StatusIndex::number), sid.as_str()];
        if !self.changed("give_status_index", sql, values).await?
            && let Some(indexes) = &mut self.indexes
        {
            indexes.give_back_last();
        }
        Ok(())
    }

    /// Sets the bits of all delegations below a session or a delegation from this moment on; an earlier one stays. Those
    /// whose tokens have expired by both clocks are left out, so that an end costs as much as there stands, and not as
    /// much as there ever was.
    pub(crate) async fn set_bits_below(&mut self, session: &Session, from: UnixMillis) -> Result<()> {
        let (root, begins) = session.family()?;
        let sql = concat!(
            "UPDATE sessions SET status_set_at = $1 WHERE ",
            kept_below!("$2", "$3"),
            " AND last_exp >= $4 AND (status_set_at IS NULL OR status_set_at > $1) AND ($5::text IS NULL OR starts_with(nodes, $5))"
        );
        let passed = self.times.passed().second();
        let kept = agentwrit_store::session::kept_until(passed);
        let values = values![from.get(), root.as_str(), kept.get(), passed.get(), begins];
        self.link.send("set_status_bits", sql, values).await
    }

    /// The same below several sessions.
    pub(crate) async fn set_bits_below_roots(&mut self, roots: &[&SessionId], from: UnixMillis) -> Result<()> {
        let sql = concat!(
            "UPDATE sessions SET status_set_at = $1 FROM unnest($2::text[]) AS above (id) WHERE ",
            kept_below!("above.id", "$3"),
            " AND last_exp >= $4 AND (status_set_at IS NULL OR status_set_at > $1)"
        );
        let passed = self.times.passed().second();
        let kept = agentwrit_store::session::kept_until(passed);
        let roots: Value = roots.iter().map(|sid| sid.as_str()).collect();
        let values = values![from.get(), roots, kept.get(), passed.get()];
        self.link.send("set_status_bits", sql, values).await
    }
}

#[async_trait]
impl StatusLists for PgTx<'_, '_> {
    async fn status_bits(&mut self) -> Result<Vec<StatusBit>> {
        let sql = "SELECT status, status_set_at FROM sessions WHERE kept_until > $1 AND status IS NOT NULL \
                   ORDER BY kept_until DESC, created_at DESC";
        let freed = freed_until(self.times.passed());
        let read = |row: &Row<'_>| Ok((status_index(row)?, row.any_millis("status_set_at")?));
        let rows = self
            .link
            .all("read_status_bits", sql, values![freed.get()], read)
            .await?;
        Ok(bits_of(rows))
    }

    async fn free_status_indexes(&mut self) -> Result<u64> {
        match &mut self.indexes {
            Some(indexes) => indexes.sweep(self.link, self.times.passed()).await,
            None => Ok(0),
        }
    }
}
