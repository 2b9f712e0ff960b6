//! Events in the short form, read from their rows.

use agentwrit_protocol::UnixNanos;
use agentwrit_protocol::audit::ExtraFields;
use agentwrit_store::{Result, StoreError};
use agentwrit_trail::{Short, corrupt, text};
use rusqlite::{Connection, Row};

use crate::error::Operation;
use crate::statements::Statements;

const READ: &str = "read_audit_events";

fn from_row(row: &Row<'_>) -> Result<Short> {
    let text = |column| row.get::<_, Option<String>>(column).during(READ);
    let whole = |column| Ok::<_, StoreError>(text(column)?.unwrap_or_default());
    Ok(Short {
        event_type: whole("event_type")?,
        outcome: whole("outcome")?,
        agent_id: whole("agent_id")?,
        task_id: whole("task_id")?,
        orch_id: whole("orch_id")?,
        detail: whole("detail")?,
        resource: whole("resource")?,
        deleg_depth: row.get::<_, Option<i64>>("deleg_depth").during(READ)?.unwrap_or(0),
        deleg_chain_hash: whole("deleg_chain_hash")?,
        extra: ExtraFields {
            actor: whole("actor")?,
            source: whole("source")?,
            correlation_id: whole("correlation_id")?,
            policy_uid: whole("policy_uid")?,
            pod_uid: whole("pod_uid")?,
            error_kind: whole("error_kind")?,
        },
        hash: row.get("hash").during(READ)?,
        prev_hash: row.get("prev_hash").during(READ)?,
    })
}

/// The text of the short event with this number.
pub(crate) fn expanded(connection: &Connection, sequence: i64) -> Result<String> {
    let sql = "SELECT at, event_type, outcome, error_kind, detail, hash, prev_hash, resource, deleg_depth, \
               deleg_chain_hash, w.agent_id, w.task_id, w.orch_id, w.actor, w.source, w.correlation_id, w.policy_uid, \
               w.pod_uid FROM audit_events e JOIN audit_who w ON w.id = e.who WHERE seq = ?";
    let found = connection.first(READ, sql, [sequence], |row| {
        from_row(row)?.restored(sequence, row.get("at").map(UnixNanos::new).during(READ)?)
    })?;
    text(&found.ok_or_else(|| corrupt(format_args!("event {sequence} has neither a text nor a short form")))?)
}
