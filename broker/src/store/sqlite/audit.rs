//! Rows of the audit trail.

use rusqlite::{Connection, params};

use super::chain::SealedEvent;
use super::statements::Statements;
use crate::store::Result;

const INSERT: &str = "INSERT INTO audit_events (seq, at, event_type, outcome, agent_id, task_id, actor, source, \
     correlation_id, policy_uid, pod_uid, error_kind, json) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// Writes the events of a batch.
pub(super) fn insert(connection: &Connection, events: &[SealedEvent]) -> Result<()> {
    for sealed in events {
        let event = &sealed.event;
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
                sealed.json,
            ],
        )?;
    }
    Ok(())
}
