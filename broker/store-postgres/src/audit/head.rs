//! The row of the chain's head. It is locked by whoever writes, from its first question to its commit.

use agentwrit_protocol::audit::{Break, BreakKind, Checkpoint, CheckpointKeys, MAX_UNSIGNED};
use agentwrit_protocol::{UnixMillis, UnixNanos};
use agentwrit_store::{MetaKey, Result, StoreError};
use agentwrit_trail::{ChainHead, Growing, Kept, Tail, checkpoint_from_text, checkpoint_text};

use crate::facts;
use crate::indexes::Counts;
use crate::link::Link;
use crate::row::Row;
use crate::schema::check_program;
use crate::value::values;

const READ: &str = "read_chain_head";
const VERIFY: &str = "verify_audit_chain";

fn from_row(row: &Row<'_>) -> Result<ChainHead> {
    Ok(ChainHead {
        sequence: row.whole("sequence")?,
        hash: row.text("hash")?,
        checkpoint: row.whole("checkpoint")?,
        signed: row.whole("signed")?,
        unsigned_since: row.any_nanos("unsigned_since")?,
        // A matter of who reads it.
        foreign: false,
        kept: Kept {
            first: row.whole("first_kept")?,
            segments: row.whole("segments")?,
            sealed_bytes: row.whole("sealed_bytes")?,
            growing: Growing {
                first: row.whole("growing_first")?,
                events: row.whole("growing_events")?,
                bytes: row.whole("growing_bytes")?,
                first_at: row.nanos("growing_first_at")?,
                last_at: row.nanos("growing_last_at")?,
                first_hash: row.text("growing_first_hash")?,
            },
        },
    })
}

/// The row.
pub(crate) struct Head {
    pub(crate) chain: ChainHead,
    /// Of the status lists.
    pub(crate) counts: Counts,
    /// Number of the last change of the revocation view.
    pub(crate) view_seq: i64,
    /// The database's time when it was read.
    pub(crate) read_at: UnixMillis,
}

macro_rules! row {
    () => {
        concat!(
            "SELECT ",
            columns!(chain_head),
            ", (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS read_at FROM chain_head WHERE id = 1"
        )
    };
}

/// Locks the head until the end of the transaction and reads it.
pub(crate) async fn locked(link: &mut Link<'_>) -> Result<Head> {
    read_row(link, "lock_chain_head", concat!(row!(), " FOR UPDATE")).await
}

/// Reads the head without its lock.
pub(crate) async fn seen(link: &mut Link<'_>) -> Result<Head> {
    read_row(link, READ, row!()).await
}

async fn read_row(link: &mut Link<'_>, operation: &'static str, sql: &'static str) -> Result<Head> {
    let read = |row: &Row<'_>| {
        // Also while this program runs, a newer one may take away what it needs.
        check_program(row.whole("oldest_program")?)?;
        Ok(Head {
            chain: from_row(row)?,
            counts: Counts::from_row(row)?,
            view_seq: row.whole("view_seq")?,
            read_at: row.millis("read_at")?,
        })
    };
    let head = link.first(operation, sql, values![], read).await?;
    head.ok_or_else(|| StoreError::Corrupt {
        what: "chain head",
        why: "there is none".to_owned(),
    })
}

/// Number of the last event, and of the first that is kept.
pub(crate) async fn ends(link: &mut Link<'_>) -> Result<(i64, i64)> {
    let sql = "SELECT sequence, first_kept FROM chain_head WHERE id = 1";
    let read = |row: &Row<'_>| Ok((row.whole("sequence")?, row.whole("first_kept")?));
    Ok(link.first(READ, sql, values![], read).await?.unwrap_or((0, 1)))
}

/// Makes the row in a new store.
pub(crate) async fn make(link: &mut Link<'_>) -> Result<()> {
    let sql = "INSERT INTO chain_head (id, sequence, hash, checkpoint, signed, unsigned_since, first_kept, segments, \
               sealed_bytes, growing_first, growing_events, growing_bytes, growing_first_at, growing_last_at, \
               growing_first_hash, oldest_program) VALUES (1, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, \
               (SELECT coalesce(max(oldest_program), 0) FROM schema_versions)) \
               ON CONFLICT (id) DO NOTHING";
    link.send("save_chain_head", sql, columns(&ChainHead::default())).await
}

/// Writes it.
pub(crate) async fn save(link: &mut Link<'_>, head: &ChainHead) -> Result<()> {
    let sql = "UPDATE chain_head SET sequence = $1, hash = $2, checkpoint = $3, signed = $4, unsigned_since = $5, \
               first_kept = $6, segments = $7, sealed_bytes = $8, growing_first = $9, growing_events = $10, \
               growing_bytes = $11, growing_first_at = $12, growing_last_at = $13, growing_first_hash = $14 WHERE id = 1";
    link.send("save_chain_head", sql, columns(head)).await
}

fn columns(head: &ChainHead) -> Vec<crate::value::Value> {
    let kept = &head.kept;
    let growing = &kept.growing;
    values![
        head.sequence,
        &head.hash,
        head.checkpoint,
        head.signed,
        head.unsigned_since.map(UnixNanos::get),
        kept.first,
        kept.segments,
        kept.sealed_bytes,
        growing.first,
        growing.events,
        growing.bytes,
        growing.first_at.get(),
        growing.last_at.get(),
        &growing.first_hash,
    ]
}

/// Keeps a statement, so that the next start knows how long the trail was.
pub(crate) async fn remember(link: &mut Link<'_>, checkpoint: &Checkpoint) -> Result<()> {
    facts::write(link, MetaKey::AuditCheckpoint, &checkpoint_text(checkpoint)?).await
}

/// Verifies the chain since its last checkpoint, against what was signed last and what the head's row says; whether the
/// last checkpoint is of a key that is gone.
pub(crate) async fn verify_tail(
    link: &mut Link<'_>,
    head: &ChainHead,
    keys: &(dyn CheckpointKeys + Sync),
) -> Result<bool> {
    let known = facts::read(link, MetaKey::AuditCheckpoint).await?;
    let known = known.as_deref().map(checkpoint_from_text).transpose()?;
    let verified = tail(link).await?.verify(known.as_ref(), keys)?;
    if verified.sequence != head.sequence || verified.hash != head.hash {
        // The head and its event are written together.
        return Err(StoreError::BrokenChain(Break {
            sequence: verified.sequence.min(head.sequence).saturating_add(1),
            kind: BreakKind::Forgotten,
        }));
    }
    Ok(verified.foreign)
}

async fn tail(link: &mut Link<'_>) -> Result<Tail> {
    let sql = "SELECT seq, at, event_type, json FROM audit_events ORDER BY segment DESC, seq DESC LIMIT $1";
    let read = |row: &Row<'_>| {
        let found = agentwrit_trail::Row {
            sequence: row.whole("seq")?,
            at: row.nanos("at")?,
            json: row.text("json")?,
        };
        Ok((found, row.text("event_type")?))
    };
    let rows = link
        .all(VERIFY, sql, values![MAX_UNSIGNED.saturating_add(1)], read)
        .await?;
    let mut tail = Tail::default();
    for (row, event_type) in rows {
        if !tail.push(row, &event_type) {
            break;
        }
    }
    Ok(tail)
}
