//! The rows of a store, as they leave it.

use std::path::Path;

use agentwrit_protocol::UnixNanos;
use agentwrit_protocol::audit::ExportedFile;
use agentwrit_store::content::{Cell, Column, EventRow, Kind, SealedSegment, Table};
use agentwrit_store::{MetaKey, Segment};
use rusqlite::{Connection, Row};

use super::error::{Result, store};
use crate::audit::expanded::expanded;
use crate::columns;
use crate::error::Operation;
use crate::statements::{Statements, scalar};

const READ: &str = "read_content";
/// Rows, and bytes of them, that go at once.
const ROWS: usize = 500;
const BYTES: usize = 1 << 20;

/// Facts that are only of this kind of store, and of what has been done to its file.
const OF_THE_FILE: [MetaKey; 5] = [
    MetaKey::AuditFirst,
    MetaKey::Shortened,
    MetaKey::WhoSwept,
    MetaKey::WriteProbe,
    MetaKey::MovedTo,
];

/// What goes at once.
pub(super) struct Batch<T> {
    items: Vec<T>,
    bytes: usize,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            bytes: 0,
        }
    }
}

impl<T: Weighed> Batch<T> {
    pub(super) fn push(&mut self, item: T) {
        self.bytes = self.bytes.saturating_add(item.bytes());
        self.items.push(item);
    }

    pub(super) fn is_full(&self) -> bool {
        self.items.len() >= ROWS || self.bytes >= BYTES
    }

    pub(super) fn take(&mut self) -> Vec<T> {
        self.bytes = 0;
        std::mem::take(&mut self.items)
    }
}

/// What takes memory.
pub(super) trait Weighed {
    fn bytes(&self) -> usize;
}

impl Weighed for EventRow {
    fn bytes(&self) -> usize {
        self.json.len()
    }
}

impl Weighed for Vec<Cell> {
    fn bytes(&self) -> usize {
        self.iter().map(Cell::bytes).sum()
    }
}

/// How a column is read, where this store has it in another way.
fn expression(table: &Table, column: &Column) -> &'static str {
    match (table.name, column.name) {
        ("pod_sessions", "stem") => "lower(hex(stem))",
        ("quarantined_pods", "by_whom") => "by",
        (_, name) => name,
    }
}

/// The query for all rows of a table.
pub(super) fn query(table: &Table) -> String {
    let columns: Vec<_> = table.columns.iter().map(|column| expression(table, column)).collect();
    let sql = format!("SELECT {} FROM {}", columns.join(", "), table.name);
    if table.name != "meta" {
        return sql;
    }
    let keys: Vec<_> = OF_THE_FILE.iter().map(|key| format!("'{}'", key.as_str())).collect();
    format!("{sql} WHERE key NOT IN ({})", keys.join(", "))
}

fn cell(row: &Row<'_>, place: usize, kind: Kind) -> agentwrit_store::Result<Cell> {
    Ok(match kind {
        Kind::Whole => Cell::Whole(row.get(place).during(READ)?),
        Kind::Text => Cell::Text(row.get(place).during(READ)?),
        Kind::Flag => Cell::Flag(row.get(place).during(READ)?),
    })
}

/// Hands on the rows of a table, some at a time.
pub(super) fn table_rows(
    connection: &Connection,
    table: &Table,
    path: &Path,
    put: &mut dyn FnMut(Vec<Vec<Cell>>) -> Result<()>,
) -> Result<()> {
    let failed = store(path);
    let mut statement = connection.prepare(&query(table)).during(READ).map_err(&failed)?;
    let mut rows = statement.query([]).during(READ).map_err(&failed)?;
    let mut batch = Batch::default();
    while let Some(row) = rows.next().during(READ).map_err(&failed)? {
        let cells = table.columns.iter().enumerate();
        let cells = cells.map(|(place, column)| cell(row, place, column.kind));
        batch.push(cells.collect::<agentwrit_store::Result<Vec<_>>>().map_err(&failed)?);
        if batch.is_full() {
            put(batch.take())?;
        }
    }
    let rest = batch.take();
    if rest.is_empty() { Ok(()) } else { put(rest) }
}

/// Hands on the events from this number on, each with the text that is served.
pub(super) fn events_from(
    connection: &Connection,
    first: i64,
    path: &Path,
    put: &mut dyn FnMut(EventRow) -> Result<()>,
) -> Result<()> {
    let failed = store(path);
    let sql = "SELECT seq, at, json FROM audit_events WHERE seq >= ? ORDER BY seq";
    let mut statement = connection.prepare(sql).during(READ).map_err(&failed)?;
    let mut rows = statement.query([first]).during(READ).map_err(&failed)?;
    let read = |row: &Row<'_>| {
        let sequence = row.get(0).during(READ)?;
        let mut json: String = row.get(2).during(READ)?;
        if json.is_empty() {
            json = expanded(connection, sequence)?;
        }
        Ok(EventRow {
            sequence,
            at: row.get(1).map(UnixNanos::new).during(READ)?,
            json,
        })
    };
    while let Some(row) = rows.next().during(READ).map_err(&failed)? {
        put(read(row).map_err(&failed)?)?;
    }
    Ok(())
}

/// The sealed segments that are kept, in order.
pub(super) fn sealed_segments(connection: &Connection) -> agentwrit_store::Result<Vec<SealedSegment>> {
    let sql = "SELECT first, last, bytes, first_at, last_at, first_hash, head, exported_at, file, sha256 \
               FROM audit_segments ORDER BY first";
    connection.all(READ, sql, [], |row| {
        let exported = (
            row.get::<_, Option<String>>("file").during(READ)?,
            row.get::<_, Option<String>>("sha256").during(READ)?,
        );
        Ok(SealedSegment {
            segment: Segment {
                first: row.get("first").during(READ)?,
                last: row.get("last").during(READ)?,
                bytes: row.get("bytes").during(READ)?,
                first_at: row.get("first_at").map(UnixNanos::new).during(READ)?,
                last_at: row.get("last_at").map(UnixNanos::new).during(READ)?,
                first_hash: row.get("first_hash").during(READ)?,
                head: row.get("head").during(READ)?,
                exported: match exported {
                    (Some(name), Some(sha256)) => Some(ExportedFile { name, sha256 }),
                    _ => None,
                },
            },
            exported_at: columns::any_millis(row, "exported_at").during(READ)?,
        })
    })
}

/// The last cursor that any denial had, also one that is gone.
pub(super) fn last_denial(connection: &Connection) -> agentwrit_store::Result<i64> {
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'denials'";
    Ok(connection.first(READ, sql, [], scalar(READ))?.unwrap_or_default())
}
