//! Rows of the trail's segments.

use agentwrit_protocol::UnixNanos;
use agentwrit_protocol::audit::ExportedFile;
use agentwrit_store::{MetaKey, Result, Segment, Segments, StoreError, TxClock};
use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use crate::audit::segments::{READ, WRITE, first_kept};
use crate::error::Operation;
use crate::facts;
use crate::statements::{Statements, scalar};
use crate::tx::SqliteTx;

/// Dropped rows that go in one transaction: all other commits wait for it, and the WAL grows by it.
const SWEPT_AT_ONCE: i64 = 500;
const COLUMNS: &str =
    "SELECT first, last, bytes, first_at, last_at, first_hash, head, file, sha256 FROM audit_segments";

fn segment(row: &Row<'_>) -> Result<Segment> {
    let exported = (
        row.get::<_, Option<String>>(7).during(READ)?,
        row.get::<_, Option<String>>(8).during(READ)?,
    );
    Ok(Segment {
        first: row.get(0).during(READ)?,
        last: row.get(1).during(READ)?,
        bytes: row.get(2).during(READ)?,
        first_at: row.get(3).map(UnixNanos::new).during(READ)?,
        last_at: row.get(4).map(UnixNanos::new).during(READ)?,
        first_hash: row.get(5).during(READ)?,
        head: row.get(6).during(READ)?,
        exported: match exported {
            (Some(name), Some(sha256)) => Some(ExportedFile { name, sha256 }),
            _ => None,
        },
    })
}

/// Bytes of free pages in the file, which doesn't shrink.
pub(crate) fn reusable_bytes(connection: &Connection) -> Result<i64> {
    let pragma = |sql| Ok::<i64, StoreError>(connection.first(READ, sql, [], scalar(READ))?.unwrap_or_default());
    Ok(pragma("PRAGMA freelist_count")?.saturating_mul(pragma("PRAGMA page_size")?))
}

#[async_trait]
impl Segments for SqliteTx<'_> {
    async fn oldest_segment(&mut self) -> Result<Option<Segment>> {
        let sql = format!("{COLUMNS} ORDER BY first LIMIT 1");
        let Some(mut oldest) = self.connection.first(READ, &sql, [], segment)? else {
            return Ok(None);
        };
        let passed = self.times.passed().start();
        if oldest.last_at > passed {
            // Its events were dated by a clock that was ahead. What comes after them is later all the same.
            let sql = "SELECT first_at FROM audit_segments WHERE first > ? AND first_at <= ? ORDER BY first LIMIT 1";
            let later = self
                .connection
                .first(READ, sql, [oldest.first, passed.get()], scalar(READ))?;
            oldest.last_at = later.map_or(oldest.last_at, UnixNanos::new);
        }
        Ok(Some(oldest))
    }

    async fn unexported_segment(&mut self) -> Result<Option<Segment>> {
        let sql = format!("{COLUMNS} WHERE exported_at IS NULL ORDER BY first LIMIT 1");
        self.connection.first(READ, &sql, [], segment)
    }

    async fn segments_before(&mut self, moment: UnixNanos) -> Result<i64> {
        let sql = "SELECT COUNT(*) FROM audit_segments WHERE last_at < ?";
        let found = self.connection.first(READ, sql, [moment.get()], scalar(READ))?;
        Ok(found.unwrap_or_default())
    }

    async fn sealed_bytes(&mut self) -> Result<i64> {
        let sql = "SELECT COALESCE(SUM(bytes), 0) FROM audit_segments";
        Ok(self.connection.first(READ, sql, [], scalar(READ))?.unwrap_or_default())
    }

    async fn note_export(&mut self, first: i64, file: &ExportedFile) -> Result<()> {
        let sql = "UPDATE audit_segments SET exported_at = ?, file = ?, sha256 = ? WHERE first = ?";
        let values = params![self.now_millis().get(), file.name, file.sha256, first];
        self.connection.change(WRITE, sql, values).map(drop)
    }

    async fn drop_segment(&mut self, segment: &Segment) -> Result<()> {
        let sql = "DELETE FROM audit_segments WHERE first = ?";
        self.connection.change("drop_audit_segment", sql, [segment.first])?;
        let first = segment.last.saturating_add(1).to_string();
        facts::write(self.connection, MetaKey::AuditFirst, &first)?;
        self.dropped.push(segment.clone());
        Ok(())
    }

    async fn any_dropped(&mut self) -> Result<bool> {
        let first = first_kept(self.connection)?;
        let sql = "SELECT EXISTS (SELECT 1 FROM audit_events WHERE seq < ?)";
        let found = self.connection.first(READ, sql, [first], scalar(READ))?;
        Ok(found.unwrap_or_default())
    }

    async fn sweep_dropped(&mut self) -> Result<()> {
        let first = first_kept(self.connection)?;
        let sql =
            "DELETE FROM audit_events WHERE seq IN (SELECT seq FROM audit_events WHERE seq < ? ORDER BY seq LIMIT ?)";
        let values = [first, SWEPT_AT_ONCE];
        self.connection.change("sweep_audit_events", sql, values).map(drop)
    }

    async fn reusable_bytes(&mut self) -> Result<i64> {
        reusable_bytes(self.connection)
    }
}
