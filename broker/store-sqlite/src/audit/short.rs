//! Events of long ago in a short form. The text that is served is made again from it, byte for byte: an event whose text
//! isn't what would be made stays as it is.

use agentwrit_protocol::UnixNanos;
use agentwrit_protocol::audit::AuditEvent;
use agentwrit_store::{MetaKey, Result};
use agentwrit_trail::{Saved, Short, corrupt, text};
use rusqlite::{Connection, ToSql, params};
use sha2::{Digest, Sha256};

use crate::audit::events::{SIZES, Sizes};
use crate::audit::segments::{first_kept, note};
use crate::error::Operation;
use crate::facts;
use crate::statements::{Statements, scalar};

const SHORTEN: &str = "shorten_audit_events";
/// Events that are shortened in one transaction, for which all other commits wait.
const AT_ONCE: i64 = 200;
/// Shared rows that are looked at in one transaction, whether any event needs them.
const SWEPT: i64 = 2_000;

/// Shortens some of the events but the last `keep`; how many were looked at, and what is saved.
pub(crate) fn shorten(connection: &Connection, keep: i64) -> Result<(u64, Saved)> {
    let number = |key| -> Result<i64> {
        let text = facts::read(connection, key)?;
        Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
    };
    sweep(connection, number(MetaKey::WhoSwept)?)?;
    // What is dropped is no segment's any more, and only waits to be swept.
    let done = number(MetaKey::Shortened)?.max(first_kept(connection)?.saturating_sub(1));
    let head: Option<Option<i64>> =
        connection.first(SHORTEN, "SELECT MAX(seq) FROM audit_events", [], scalar(SHORTEN))?;
    let until = head.flatten().unwrap_or(0).saturating_sub(keep);
    let sql =
        format!("SELECT seq, at, json, {SIZES} FROM audit_events WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?");
    let rows: Vec<(i64, UnixNanos, String, i64)> = connection.all(SHORTEN, &sql, [done, until, AT_ONCE], |row| {
        let sequence = row.get(0).during(SHORTEN)?;
        let at = row.get(1).map(UnixNanos::new).during(SHORTEN)?;
        Ok((sequence, at, row.get(2).during(SHORTEN)?, Sizes::of_row(row, 3)?.cost()))
    })?;
    // All of them leave their pages before any comes back: a row that only shrinks leaves its page as large as it is.
    let mut short = Vec::with_capacity(rows.len());
    for (sequence, at, json, cost) in &rows {
        if let Some(event) = shortened(*sequence, *at, json) {
            connection.change(SHORTEN, "DELETE FROM audit_events WHERE seq = ?", [sequence])?;
            short.push((*sequence, *at, event, *cost));
        }
    }
    let mut saved = Saved::default();
    for (sequence, at, event, cost) in &short {
        let shared = insert(connection, *sequence, *at, event)?;
        let less = cost
            .saturating_sub(cost_of(connection, *sequence)?)
            .saturating_sub(shared);
        note(&mut saved, connection, *sequence, less)?;
    }
    if let Some((last, ..)) = rows.last() {
        facts::write(connection, MetaKey::Shortened, &last.to_string())?;
    }
    Ok((u64::try_from(rows.len()).unwrap_or(u64::MAX), saved))
}

/// What the row of an event takes.
fn cost_of(connection: &Connection, sequence: i64) -> Result<i64> {
    let sql = format!("SELECT {SIZES} FROM audit_events WHERE seq = ?");
    let cost = connection.first(SHORTEN, &sql, [sequence], |row| Ok(Sizes::of_row(row, 0)?.cost()))?;
    Ok(cost.unwrap_or(0))
}

/// The short form of an event; `None` when its text could not be made from that.
fn shortened(sequence: i64, at: UnixNanos, json: &str) -> Option<Short> {
    let event = serde_json::from_str::<AuditEvent>(json).ok()?;
    let short = Short::of(&event)?;
    let made = short.restored(sequence, at).and_then(|event| text(&event)).ok()?;
    (made == json).then_some(short)
}

/// Writes it; what the shared row takes that it needs, unless that was there.
fn insert(connection: &Connection, sequence: i64, at: UnixNanos, short: &Short) -> Result<i64> {
    let (who, shared) = who_id(connection, short)?;
    connection.change(
        SHORTEN,
        "INSERT INTO audit_events (seq, at, event_type, outcome, agent_id, task_id, actor, source, correlation_id, \
         policy_uid, pod_uid, error_kind, json, who, detail, hash, prev_hash, resource, deleg_depth, deleg_chain_hash) \
         VALUES (?, ?, ?, ?, '', '', '', '', '', '', '', ?, '', ?, ?, ?, ?, ?, ?, ?)",
        params![
            sequence,
            at.get(),
            short.event_type,
            short.outcome,
            short.extra.error_kind,
            who,
            short.detail,
            short.hash,
            short.prev_hash,
            Some(&short.resource).filter(|text| !text.is_empty()),
            Some(short.deleg_depth).filter(|depth| *depth != 0),
            Some(&short.deleg_chain_hash).filter(|text| !text.is_empty()),
        ],
    )?;
    Ok(shared)
}

/// The row of those that an event tells of, made when it is the first, and what it takes then.
fn who_id(connection: &Connection, short: &Short) -> Result<(i64, i64)> {
    let who = short.who();
    let key: [u8; 32] = Sha256::digest(serde_json::to_vec(&who).map_err(corrupt)?).into();
    let known = connection.first(
        SHORTEN,
        "SELECT id FROM audit_who WHERE key = ?",
        [key],
        scalar(SHORTEN),
    )?;
    if let Some(id) = known {
        return Ok((id, 0));
    }
    let mut values: Vec<&dyn ToSql> = vec![&key];
    values.extend(who.iter().map(|text| -> &dyn ToSql { text }));
    connection.change(
        SHORTEN,
        "INSERT INTO audit_who (key, agent_id, task_id, orch_id, actor, source, correlation_id, policy_uid, pod_uid) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        values.as_slice(),
    )?;
    let texts: usize = who.iter().map(|text| text.len()).sum();
    // The key is there twice, and two of the texts are in indexes: about as much again.
    let bytes = i64::try_from(2 * (texts + key.len())).unwrap_or(i64::MAX);
    Ok((connection.last_insert_rowid(), Sizes::of(bytes).cost()))
}

/// Removes shared rows that no event needs any more, some at a time, round and round.
fn sweep(connection: &Connection, after: i64) -> Result<()> {
    let first: Option<Option<i64>> =
        connection.first(SHORTEN, "SELECT MIN(seq) FROM audit_events", [], scalar(SHORTEN))?;
    if first.flatten().is_none_or(|first| first <= 1) {
        // Nothing was ever dropped.
        return Ok(());
    }
    let sql = "SELECT MAX(id) FROM (SELECT id FROM audit_who WHERE id > ? ORDER BY id LIMIT ?)";
    let last: Option<Option<i64>> = connection.first(SHORTEN, sql, [after, SWEPT], scalar(SHORTEN))?;
    let last = last.flatten();
    if let Some(last) = last {
        let sql = "DELETE FROM audit_who WHERE id > ? AND id <= ? \
                   AND NOT EXISTS (SELECT 1 FROM audit_events WHERE who = audit_who.id)";
        connection.change(SHORTEN, sql, [after, last])?;
    }
    facts::write(connection, MetaKey::WhoSwept, &last.unwrap_or(0).to_string())
}

#[cfg(test)]
mod tests;
