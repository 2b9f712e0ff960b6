//! Rows of the audit trail: writing a batch, paging, and verifying the tail.

use agentwrit_protocol::audit::{AuditEvent, GENESIS_HASH};
use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

use super::statements::{Statements, scalar};
use super::tx::SealedEvent;
use crate::store::{EventFilter, EventPage, Operation, Result, StoreError};

/// How much of the tail is verified at start.
const VERIFIED_AT_START: i64 = 1000;

/// The last event of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChainHead {
    /// Its number; 0 before the first.
    pub(crate) sequence: i64,
    /// Its hash.
    pub(crate) hash: String,
}

impl Default for ChainHead {
    fn default() -> Self {
        Self {
            sequence: 0,
            hash: GENESIS_HASH.to_owned(),
        }
    }
}

fn parse(json: &str) -> Result<AuditEvent> {
    serde_json::from_str(json).map_err(|error| StoreError::Corrupt {
        what: "audit event",
        why: error.to_string(),
    })
}

const INSERT: &str = "INSERT INTO audit_events (seq, at, event_type, outcome, agent_id, task_id, actor, source, \
     correlation_id, policy_uid, pod_uid, error_kind, json) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// Writes the events of a batch.
pub(super) fn insert(connection: &Connection, events: &[SealedEvent]) -> Result<()> {
    for sealed in events {
        let event = &sealed.event;
        let json = serde_json::to_string(event).map_err(|error| StoreError::Corrupt {
            what: "audit event",
            why: error.to_string(),
        })?;
        connection.change(
            "save_audit_event",
            INSERT,
            params![
                sealed.sequence,
                sealed.at_nanos,
                event.event_type,
                event.outcome,
                event.agent_id,
                event.task_id,
                event.extra.actor,
                event.extra.source,
                event.extra.correlation_id,
                event.extra.policy_uid,
                event.extra.pod_uid,
                event.extra.error_kind,
                json,
            ],
        )?;
    }
    Ok(())
}

/// The WHERE clause of a filter, and its values in order.
fn conditions(filter: &EventFilter) -> (String, Vec<Value>) {
    let mut sql = String::from(" WHERE 1 = 1");
    let mut values = Vec::new();
    for (column, value) in &filter.exact {
        // The second comparison lets the planner use the partial indexes.
        let column = column.as_str();
        for part in [" AND ", column, " = ? AND ", column, " <> ''"] {
            sql.push_str(part);
        }
        values.push(Value::Text(value.clone()));
    }
    for (condition, moment) in [(" AND at >= ?", filter.since), (" AND at <= ?", filter.until)] {
        if let Some(moment) = moment {
            sql.push_str(condition);
            values.push(Value::Integer(moment));
        }
    }
    (sql, values)
}

/// One page of the trail.
pub(super) fn page(connection: &Connection, filter: &EventFilter) -> Result<EventPage> {
    const COUNT: &str = "count_audit_events";
    const READ: &str = "read_audit_events";
    let (conditions, mut values) = conditions(filter);
    let sql = format!("SELECT COUNT(*) FROM audit_events{conditions}");
    let total = connection.first(COUNT, &sql, params_from_iter(&values), scalar(COUNT))?;
    values.extend([Value::Integer(filter.limit), Value::Integer(filter.offset)]);
    let sql = format!("SELECT json FROM audit_events{conditions} ORDER BY seq LIMIT ? OFFSET ?");
    let events = connection.all(READ, &sql, params_from_iter(&values), |row| {
        parse(&scalar::<String>(READ)(row)?)
    })?;
    Ok(EventPage {
        events,
        total: total.unwrap_or_default(),
    })
}

/// Verifies the end of the chain and returns its head.
///
/// # Errors
/// [`StoreError::BrokenChain`] naming the first event that doesn't fit.
pub(super) fn verify_tail(connection: &Connection) -> Result<ChainHead> {
    const OPERATION: &str = "verify_audit_chain";
    let sql = "SELECT seq, json FROM audit_events ORDER BY seq DESC LIMIT ?";
    let rows = connection.all(OPERATION, sql, [VERIFIED_AT_START + 1], |row| {
        let sequence: i64 = row.get(0).during(OPERATION)?;
        let json: String = row.get(1).during(OPERATION)?;
        Ok((sequence, parse(&json)?))
    })?;
    let mut head: Option<ChainHead> = None;
    for (sequence, event) in rows.into_iter().rev() {
        let broken = |why| Err(StoreError::BrokenChain { sequence, why });
        if event.id != AuditEvent::id_for(sequence) {
            return broken("its id is not its number");
        }
        if event.hash != event.compute_hash() {
            return broken("its hash is not that of its content");
        }
        if event
            .extra
            .hash()
            .is_some_and(|hash| !event.detail.ends_with(&format!(" ext_hash={hash}")))
        {
            return broken("its extra fields are not those of its ext_hash");
        }
        let (number, hash) = match head {
            Some(before) => (before.sequence + 1, before.hash),
            None if sequence == 1 => (1, GENESIS_HASH.to_owned()),
            None => (sequence, event.prev_hash.clone()),
        };
        if sequence != number {
            return broken("events before it are missing");
        }
        if event.prev_hash != hash {
            return broken("it does not follow the event before");
        }
        head = Some(ChainHead {
            sequence,
            hash: event.hash,
        });
    }
    Ok(head.unwrap_or_default())
}
