//! Rows of the trail's segments.

use agentwrit_protocol::UnixNanos;
use agentwrit_protocol::audit::ExportedFile;
use agentwrit_store::{Result, Segment, Segments, TxClock};
use async_trait::async_trait;

use crate::row::Row;
use crate::tx::PgTx;
use crate::value::values;

const READ: &str = "read_audit_segments";

fn segment(row: &Row<'_>) -> Result<Segment> {
    Ok(Segment {
        first: row.whole("first")?,
        last: row.whole("last")?,
        bytes: row.whole("bytes")?,
        first_at: row.nanos("first_at")?,
        last_at: row.nanos("last_at")?,
        first_hash: row.text("first_hash")?,
        head: row.text("head")?,
        exported: match (row.any_text("file")?, row.any_text("sha256")?) {
            (Some(name), Some(sha256)) => Some(ExportedFile { name, sha256 }),
            _ => None,
        },
    })
}

#[async_trait]
impl Segments for PgTx<'_, '_> {
    async fn oldest_segment(&mut self) -> Result<Option<Segment>> {
        let sql = select!(audit_segments, "ORDER BY first LIMIT 1");
        let Some(mut oldest) = self.link.first(READ, sql, values![], segment).await? else {
            return Ok(None);
        };
        let passed = self.times.passed().start();
        if oldest.last_at > passed {
            // Its events were dated by a clock that was ahead. What comes after them is later all the same.
            let sql = "SELECT first_at FROM audit_segments WHERE first > $1 AND first_at <= $2 ORDER BY first LIMIT 1";
            let values = values![oldest.first, passed.get()];
            let later = self.link.first(READ, sql, values, |row| row.nanos("first_at")).await?;
            oldest.last_at = later.unwrap_or(oldest.last_at);
        }
        Ok(Some(oldest))
    }

    async fn unexported_segment(&mut self) -> Result<Option<Segment>> {
        let sql = select!(audit_segments, "WHERE exported_at IS NULL ORDER BY first LIMIT 1");
        self.link.first(READ, sql, values![], segment).await
    }

    async fn segments_before(&mut self, moment: UnixNanos) -> Result<i64> {
        let sql = "SELECT count(*) AS found FROM audit_segments WHERE last_at < $1";
        let values = values![moment.get()];
        let found = self.link.first(READ, sql, values, |row| row.whole("found")).await?;
        Ok(found.unwrap_or_default())
    }

    async fn sealed_bytes(&mut self) -> Result<i64> {
        let sql = "SELECT coalesce(sum(bytes), 0)::bigint AS found FROM audit_segments";
        let found = self.link.first(READ, sql, values![], |row| row.whole("found")).await?;
        Ok(found.unwrap_or_default())
    }

    async fn note_export(&mut self, first: i64, file: &ExportedFile) -> Result<()> {
        let sql = "UPDATE audit_segments SET exported_at = $1, file = $2, sha256 = $3 WHERE first = $4";
        let values = values![self.now_millis().get(), &file.name, &file.sha256, first];
        self.link.send("write_audit_segment", sql, values).await
    }

    async fn drop_segment(&mut self, segment: &Segment) -> Result<()> {
        let sql = "SELECT drop_segment($1)";
        self.link
            .change("drop_audit_segment", sql, values![segment.first])
            .await?;
        self.dropped.push(segment.clone());
        Ok(())
    }

    async fn any_dropped(&mut self) -> Result<bool> {
        self.any(READ, "SELECT true FROM dropped_segments LIMIT 1", values![])
            .await
    }

    async fn sweep_dropped(&mut self) -> Result<()> {
        let sql = "SELECT sweep_segment()";
        self.link.change("sweep_audit_events", sql, values![]).await.map(drop)
    }

    async fn reusable_bytes(&mut self) -> Result<i64> {
        // The disk is the server's.
        Ok(0)
    }
}
