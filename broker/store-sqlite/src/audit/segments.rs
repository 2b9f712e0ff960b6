//! Where the trail is cut into segments, and what is kept of it.

use agentwrit_protocol::UnixNanos;
use agentwrit_protocol::audit::EventType;
use agentwrit_store::segment::{Cut, Segment};
use agentwrit_store::{MetaKey, Result, StoreError};
use rusqlite::{Connection, params};

use crate::audit::events::{SIZES, Sizes, hash_at};
use crate::error::Operation;
use crate::facts;
use crate::statements::{Statements, begin};

pub(crate) const READ: &str = "read_audit_segments";
pub(crate) const WRITE: &str = "write_audit_segment";

/// Bytes that short events take less than they took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Saved {
    /// In sealed segments.
    sealed: i64,
    /// In the one that grows.
    growing: i64,
}

impl Saved {
    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            sealed: self.sealed.saturating_add(other.sealed),
            growing: self.growing.saturating_add(other.growing),
        }
    }

    /// Takes note in the row of its segment that an event takes so many bytes less.
    pub(crate) fn note(&mut self, connection: &Connection, sequence: i64, bytes: i64) -> Result<()> {
        let sql = "UPDATE audit_segments SET bytes = max(0, bytes - ?1) \
                   WHERE first = (SELECT max(first) FROM audit_segments WHERE first <= ?2) AND last >= ?2";
        let of = if connection.change(WRITE, sql, [bytes, sequence])? > 0 {
            &mut self.sealed
        } else {
            &mut self.growing
        };
        *of = of.saturating_add(bytes);
        Ok(())
    }
}

/// The segment that grows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Growing {
    first: i64,
    events: i64,
    bytes: i64,
    first_at: UnixNanos,
    last_at: UnixNanos,
    first_hash: String,
}

impl Growing {
    fn from(first: i64) -> Self {
        Self {
            first,
            events: 0,
            bytes: 0,
            first_at: UnixNanos::default(),
            last_at: UnixNanos::MIN,
            first_hash: String::new(),
        }
    }

    fn add(&mut self, at: UnixNanos, bytes: i64) {
        if self.events == 0 {
            self.first_at = at;
        }
        self.events = self.events.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        self.last_at = self.last_at.max(at);
    }

    fn is_due(&self, cut: Cut, now: UnixNanos) -> bool {
        // A checkpoint alone stands for what was sealed before it: it isn't sealed again and again.
        let least = if self.first == 1 { 1 } else { 2 };
        // One that begins in the future was begun by a clock that was wrong.
        let aged = |age| now.since(self.first_at).max(self.first_at.since(now)) >= age;
        self.bytes >= cut.bytes || (self.events >= least && cut.age.is_some_and(aged))
    }
}

/// What is kept of the trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Number of the first event that is kept.
    pub(crate) first: i64,
    /// Sealed segments.
    pub(crate) segments: i64,
    sealed_bytes: i64,
    growing: Growing,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            first: 1,
            segments: 0,
            sealed_bytes: 0,
            growing: Growing::from(1),
        }
    }
}

impl Kept {
    /// What the events that are kept take in the file, about.
    pub(crate) fn bytes(&self) -> i64 {
        self.sealed_bytes.saturating_add(self.growing.bytes)
    }

    /// Takes note of an event that was appended.
    pub(crate) fn appended(&mut self, at: UnixNanos, bytes: i64, hash: &str) {
        if self.growing.events == 0 {
            hash.clone_into(&mut self.growing.first_hash);
        }
        self.growing.add(at, bytes);
    }

    /// Whether the next event has to be the checkpoint that a new segment begins with.
    pub(crate) fn is_due(&self, cut: Cut, now: UnixNanos) -> bool {
        self.growing.is_due(cut, now)
    }

    /// Seals what has grown up to the event of this number and hash.
    pub(crate) fn seal(&mut self, last: i64, head: &str) -> Segment {
        let grown = std::mem::replace(&mut self.growing, Growing::from(last.saturating_add(1)));
        self.segments = self.segments.saturating_add(1);
        self.sealed_bytes = self.sealed_bytes.saturating_add(grown.bytes);
        Segment {
            first: grown.first,
            last,
            bytes: grown.bytes,
            first_at: grown.first_at,
            last_at: grown.last_at,
            first_hash: grown.first_hash,
            head: head.to_owned(),
            exported: None,
        }
    }

    /// Takes note of events that were shortened.
    pub(crate) fn shortened(&mut self, saved: Saved) {
        self.sealed_bytes = self.sealed_bytes.saturating_sub(saved.sealed).max(0);
        self.growing.bytes = self.growing.bytes.saturating_sub(saved.growing).max(0);
    }

    /// Takes note of segments that were dropped.
    pub(crate) fn dropped(&mut self, segments: &[Segment]) {
        for segment in segments {
            self.first = segment.last.saturating_add(1);
            self.segments = self.segments.saturating_sub(1);
            self.sealed_bytes = self.sealed_bytes.saturating_sub(segment.bytes);
        }
    }
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
