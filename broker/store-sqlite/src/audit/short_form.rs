//! The short form of an event: what its row's number, moment and columns don't say.

use agentwrit_protocol::audit::{AuditEvent, ExtraFields};
use agentwrit_protocol::timestamp::rfc3339_nanos;
use agentwrit_protocol::{UnixNanos, go_json, lower_hex};
use agentwrit_store::{Result, StoreError};
use rusqlite::{Connection, Row};
use time::OffsetDateTime;

use crate::error::Operation;
use crate::statements::Statements;

const READ: &str = "read_audit_events";

pub(crate) fn corrupt(why: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt {
        what: "audit event",
        why: why.to_string(),
    }
}

/// The text of an event as it is served.
pub(crate) fn text(event: &AuditEvent) -> Result<String> {
    go_json::to_string(event).map_err(corrupt)
}

/// An event without what its row's number, moment and columns say.
pub(crate) struct Short {
    pub(crate) event_type: String,
    pub(crate) outcome: String,
    pub(crate) agent_id: String,
    pub(crate) task_id: String,
    pub(crate) orch_id: String,
    /// Without the `ext_hash`, which is made of the extra fields.
    pub(crate) detail: String,
    pub(crate) resource: String,
    pub(crate) deleg_depth: i64,
    pub(crate) deleg_chain_hash: String,
    pub(crate) extra: ExtraFields,
    pub(crate) hash: [u8; 32],
    pub(crate) prev_hash: [u8; 32],
}

impl Short {
    pub(crate) fn of(event: &AuditEvent) -> Option<Self> {
        let bytes = |hash: &str| -> Option<[u8; 32]> { hex::decode(hash).ok()?.try_into().ok() };
        let detail = match event.extra.hash() {
            Some(hash) => event.detail.strip_suffix(&ext_hash(&hash))?,
            None => &event.detail,
        };
        Some(Self {
            event_type: event.event_type.clone(),
            outcome: event.outcome.clone(),
            agent_id: event.agent_id.clone(),
            task_id: event.task_id.clone(),
            orch_id: event.orch_id.clone(),
            detail: detail.to_owned(),
            resource: event.resource.clone(),
            deleg_depth: event.deleg_depth,
            deleg_chain_hash: event.deleg_chain_hash.clone(),
            extra: event.extra.clone(),
            hash: bytes(&event.hash)?,
            prev_hash: bytes(&event.prev_hash)?,
        })
    }

    pub(crate) fn who(&self) -> [&str; 8] {
        let extra = &self.extra;
        [
            &self.agent_id,
            &self.task_id,
            &self.orch_id,
            &extra.actor,
            &extra.source,
            &extra.correlation_id,
            &extra.policy_uid,
            &extra.pod_uid,
        ]
    }

    /// The event as it was sealed.
    pub(crate) fn restored(&self, sequence: i64, at: UnixNanos) -> Result<AuditEvent> {
        let at = OffsetDateTime::from_unix_timestamp_nanos(at.get().into()).map_err(corrupt)?;
        let mut detail = self.detail.clone();
        if let Some(hash) = self.extra.hash() {
            detail.push_str(&ext_hash(&hash));
        }
        Ok(AuditEvent {
            id: AuditEvent::id_for(sequence),
            timestamp: rfc3339_nanos(at),
            event_type: self.event_type.clone(),
            agent_id: self.agent_id.clone(),
            task_id: self.task_id.clone(),
            orch_id: self.orch_id.clone(),
            detail,
            resource: self.resource.clone(),
            outcome: self.outcome.clone(),
            deleg_depth: self.deleg_depth,
            deleg_chain_hash: self.deleg_chain_hash.clone(),
            bytes_transferred: 0,
            extra: self.extra.clone(),
            hash: lower_hex(self.hash),
            prev_hash: lower_hex(self.prev_hash),
        })
    }
}

fn ext_hash(hash: &str) -> String {
    format!(" ext_hash={hash}")
}

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
