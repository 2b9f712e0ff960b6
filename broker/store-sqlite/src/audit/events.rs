//! Rows of the audit trail.

use agentwrit_protocol::audit::GENESIS_HASH;
use agentwrit_store::Result;
use agentwrit_trail::{SealedEvent, hash_in};
use rusqlite::{Connection, Row, params};

use crate::audit::expanded::expanded;
use crate::error::Operation;
use crate::statements::{Statements, scalar};

const HASH: &str = "restore";
const PAGE: i64 = 4096;
/// What a page can hold of rows.
const ROOM: i64 = PAGE - 16;
/// Number, moment and headers of a row; of an entry in an index.
const ROW: i64 = 40;
const ENTRY: i64 = 16;

/// The bytes of a row that [`Sizes::of_row`] reads.
pub(crate) const SIZES: &str = "octet_length(json) + octet_length(event_type) + octet_length(outcome) + \
     octet_length(agent_id) + octet_length(task_id) + octet_length(actor) + octet_length(source) + \
     octet_length(correlation_id) + octet_length(policy_uid) + octet_length(pod_uid) + octet_length(error_kind) + \
     ifnull(octet_length(detail), 0) + ifnull(octet_length(hash), 0) + ifnull(octet_length(prev_hash), 0) + \
     ifnull(octet_length(resource), 0) + ifnull(octet_length(deleg_chain_hash), 0), \
     octet_length(correlation_id), max(octet_length(pod_uid), ifnull(length(who), 0))";

/// The bytes of an event's row.
pub(crate) struct Sizes {
    row: i64,
    /// Indexed values, 0 when they are empty and not in the index.
    correlation_id: i64,
    pod_uid: i64,
}

fn length(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}

impl Sizes {
    /// Of a row whose indexed values, if any, are texts of other tables.
    pub(crate) fn of(row: i64) -> Self {
        Self {
            row,
            correlation_id: 0,
            pod_uid: 0,
        }
    }

    pub(crate) fn of_row(row: &Row<'_>, column: usize) -> Result<Self> {
        let size = |index| row.get(index).during("read_audit_segments");
        Ok(Self {
            row: size(column)?,
            correlation_id: size(column + 1)?,
            pod_uid: size(column + 2)?,
        })
    }

    pub(crate) fn of_event(sealed: &SealedEvent) -> Self {
        let event = &sealed.event;
        let extra = &event.extra;
        let columns = [
            &sealed.json,
            &event.event_type,
            &event.outcome,
            &event.agent_id,
            &event.task_id,
            &extra.actor,
            &extra.source,
            &extra.correlation_id,
            &extra.policy_uid,
            &extra.pod_uid,
            &extra.error_kind,
        ];
        Self {
            row: columns.iter().map(|text| length(text)).sum(),
            correlation_id: length(&extra.correlation_id),
            pod_uid: length(&extra.pod_uid),
        }
    }

    /// What the event takes in the file, about and rather more: as if all rows of a page were of its size, and the pages
    /// of indexes two thirds full.
    pub(crate) fn cost(&self) -> i64 {
        let row = self.row.saturating_add(ROW);
        let table = match ROOM / row.max(1) {
            0 => (row / ROOM + 1).saturating_mul(PAGE),
            rows => PAGE / rows,
        };
        let entry = |length: i64| if length > 0 { (length + ENTRY) * 3 / 2 } else { 0 };
        table
            .saturating_add(entry(self.correlation_id))
            .saturating_add(entry(self.pod_uid))
    }
}

/// What an event's row takes, for where segments are cut.
pub(crate) fn cost(sealed: &SealedEvent) -> i64 {
    Sizes::of_event(sealed).cost()
}

const INSERT: &str = "INSERT INTO audit_events (seq, at, event_type, outcome, agent_id, task_id, actor, source, \
     correlation_id, policy_uid, pod_uid, error_kind, json) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// Writes the events of a batch.
pub(crate) fn insert(connection: &Connection, events: &[SealedEvent]) -> Result<()> {
    for sealed in events {
        let event = &sealed.event;
        connection.change(
            "save_audit_event",
            INSERT,
            params![
                sealed.sequence,
                sealed.at.get(),
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

/// `hash` of the event with this number, while its row is there.
pub(crate) fn hash_at(connection: &Connection, sequence: i64) -> Result<Option<String>> {
    if sequence == 0 {
        return Ok(Some(GENESIS_HASH.to_owned()));
    }
    let sql = "SELECT json FROM audit_events WHERE seq = ?";
    let json: Option<String> = connection.first(HASH, sql, [sequence], scalar(HASH))?;
    let hash = |json: String| {
        if json.is_empty() {
            hash_in(&expanded(connection, sequence)?)
        } else {
            hash_in(&json)
        }
    };
    json.map(hash).transpose()
}
