//! The rows of the chain: what a batch appends, and the check of its end at start.

use agentwrit_protocol::UnixNanos;
use agentwrit_protocol::audit::{Checkpoint, CheckpointKeys, MAX_UNSIGNED};
use agentwrit_store::{MetaKey, Result};
use agentwrit_trail::{ChainHead, Links, Row, Tail, checkpoint_from_text, checkpoint_text};
use rusqlite::Connection;

use crate::audit::events::insert;
use crate::audit::expanded::expanded;
use crate::audit::segments;
use crate::error::Operation;
use crate::facts;

const VERIFY: &str = "verify_audit_chain";

/// Writes what a batch appends to the chain.
pub(crate) fn append(connection: &Connection, links: Links) -> Result<Links> {
    insert(connection, &links.events)?;
    segments::insert(connection, &links.sealed)?;
    if let Some(checkpoint) = &links.checkpoint {
        remember(connection, checkpoint)?;
    }
    Ok(links)
}

/// Keeps a statement, so that the next start knows how long the trail was.
pub(crate) fn remember(connection: &Connection, checkpoint: &Checkpoint) -> Result<()> {
    facts::write(connection, MetaKey::AuditCheckpoint, &checkpoint_text(checkpoint)?)
}

/// Verifies the chain since its last checkpoint, against what was signed last, and returns its head.
///
/// # Errors
/// As for [`Tail::verify`].
pub(crate) fn verify_tail(connection: &Connection, keys: &dyn CheckpointKeys) -> Result<ChainHead> {
    let known = facts::read(connection, MetaKey::AuditCheckpoint)?;
    let known = known.as_deref().map(checkpoint_from_text).transpose()?;
    tail(connection)?.verify(known.as_ref(), keys)
}

fn tail(connection: &Connection) -> Result<Tail> {
    let sql = "SELECT seq, at, event_type, json FROM audit_events ORDER BY seq DESC LIMIT ?";
    let mut statement = connection.prepare_cached(sql).during(VERIFY)?;
    let mut rows = statement.query([MAX_UNSIGNED.saturating_add(1)]).during(VERIFY)?;
    let mut tail = Tail::default();
    while let Some(row) = rows.next().during(VERIFY)? {
        let sequence = row.get(0).during(VERIFY)?;
        let at = row.get(1).map(UnixNanos::new).during(VERIFY)?;
        let event_type: String = row.get(2).during(VERIFY)?;
        let mut json: String = row.get(3).during(VERIFY)?;
        if json.is_empty() {
            json = expanded(connection, sequence)?;
        }
        if !tail.push(Row { sequence, at, json }, &event_type) {
            break;
        }
    }
    Ok(tail)
}
