//! Rows of the trail's segments, and what they say is kept of it.

use agentwrit_protocol::UnixNanos;
use agentwrit_protocol::audit::EventType;
use agentwrit_store::segment::{Cut, Segment};
use agentwrit_store::{MetaKey, Result, StoreError};
use agentwrit_trail::{Growing, Kept, Saved};
use rusqlite::{Connection, params};

use crate::audit::events::{SIZES, Sizes, hash_at};
use crate::error::Operation;
use crate::facts;
use crate::statements::{Statements, begin};

pub(crate) const READ: &str = "read_audit_segments";
pub(crate) const WRITE: &str = "write_audit_segment";

/// Takes note in the row of its segment that an event takes so many bytes less.
pub(crate) fn note(saved: &mut Saved, connection: &Connection, sequence: i64, bytes: i64) -> Result<()> {
    let sql = "UPDATE audit_segments SET bytes = max(0, bytes - ?1) \
               WHERE first = (SELECT max(first) FROM audit_segments WHERE first <= ?2) AND last >= ?2";
    let of = if connection.change(WRITE, sql, [bytes, sequence])? > 0 {
        &mut saved.sealed
    } else {
        &mut saved.growing
    };
    *of = of.saturating_add(bytes);
    Ok(())
}

/// Writes the segments that a batch has sealed.
pub(crate) fn insert(connection: &Connection, segments: &[Segment]) -> Result<()> {
    let sql = "INSERT INTO audit_segments (first, last, bytes, first_at, last_at, first_hash, head) \
               VALUES (?, ?, ?, ?, ?, ?, ?)";
    for segment in segments {
        connection.change(
            WRITE,
            sql,
            params![
                segment.first,
                segment.last,
                segment.bytes,
                segment.first_at.get(),
                segment.last_at.get(),
                segment.first_hash,
                segment.head,
            ],
        )?;
    }
    Ok(())
}

/// Number of the first event that is kept; rows before it are only left to be swept.
pub(crate) fn first_kept(connection: &Connection) -> Result<i64> {
    let Some(text) = facts::read(connection, MetaKey::AuditFirst)? else {
        return Ok(1);
    };
    text.parse().map_err(|_| StoreError::Corrupt {
        what: "audit_first",
        why: format!("{text:?} is no number"),
    })
}

/// What a store keeps. A trail that was never cut is cut now, at the checkpoints that it has.
pub(crate) fn load(connection: &mut Connection, cut: Cut) -> Result<Kept> {
    let first = first_kept(connection)?;
    let sums = "SELECT COUNT(*), COALESCE(SUM(bytes), 0), MAX(last) FROM audit_segments";
    let sums = connection.first(READ, sums, [], |row| {
        Ok((
            row.get(0).during(READ)?,
            row.get(1).during(READ)?,
            row.get::<_, Option<i64>>(2).during(READ)?,
        ))
    })?;
    let (segments, sealed_bytes, last) = sums.unwrap_or_default();
    let mut kept = Kept {
        first,
        segments,
        sealed_bytes,
        growing: Growing::from(last.map_or(first, |last| last.saturating_add(1))),
    };
    let sealed = grow(connection, &mut kept, cut)?;
    if !sealed.is_empty() {
        let transaction = begin(connection, WRITE)?;
        insert(&transaction, &sealed)?;
        transaction.commit().during(WRITE)?;
    }
    if first > 1 {
        tracing::info!(target: "AUDIT", component = "Retention", first,
            "the audit trail begins at this event: those before it were dropped");
    }
    Ok(kept)
}

/// Reads what has grown since the last sealed segment.
fn grow(connection: &Connection, kept: &mut Kept, cut: Cut) -> Result<Vec<Segment>> {
    let sql = format!("SELECT seq, at, event_type, {SIZES} FROM audit_events WHERE seq >= ? ORDER BY seq");
    let mut statement = connection.prepare_cached(&sql).during(READ)?;
    let mut rows = statement.query([kept.growing.first]).during(READ)?;
    let mut sealed = Vec::new();
    while let Some(row) = rows.next().during(READ)? {
        let number: i64 = row.get(0).during(READ)?;
        let at = row.get(1).map(UnixNanos::new).during(READ)?;
        let event_type: String = row.get(2).during(READ)?;
        let boundary = event_type == EventType::AuditCheckpoint.as_str();
        if boundary && kept.growing.bytes >= cut.bytes {
            let last = number.saturating_sub(1);
            let head = hash_at(connection, last)?.unwrap_or_default();
            sealed.push(kept.seal(last, &head));
        }
        if kept.growing.events == 0 {
            kept.growing.first_hash = hash_at(connection, number)?.unwrap_or_default();
        }
        kept.growing.add(at, Sizes::of_row(row, 3)?.cost());
    }
    Ok(sealed)
}
