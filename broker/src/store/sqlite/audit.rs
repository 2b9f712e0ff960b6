//! Rows of the audit trail: writing a batch, paging, and verifying the tail.

use agentwrit_protocol::audit::{AuditEvent, GENESIS_HASH};
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};

use super::tx::SealedEvent;
use crate::store::{EventFilter, EventPage, Operation, Result, StoreError};

/// How much of the tail is verified at start.
const VERIFIED_AT_START: i64 = 1000;
/// Rows in one INSERT: 13 values each, under SQLite's limit of bound values.
const ROWS_PER_INSERT: usize = 200;

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

/// Writes the events of a batch.
pub(super) async fn insert(connection: &mut SqliteConnection, events: &[SealedEvent]) -> Result<()> {
    for chunk in events.chunks(ROWS_PER_INSERT) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO audit_events (seq, at, event_type, outcome, agent_id, task_id, actor, source, correlation_id, \
             policy_uid, pod_uid, error_kind, json) ",
        );
        let mut rows = Vec::with_capacity(chunk.len());
        for sealed in chunk {
            let json = serde_json::to_string(&sealed.event).map_err(|error| StoreError::Corrupt {
                what: "audit event",
                why: error.to_string(),
            })?;
            rows.push((sealed, json));
        }
        query.push_values(rows, |mut row, (sealed, json)| {
            let event = &sealed.event;
            row.push_bind(sealed.sequence)
                .push_bind(sealed.at_nanos)
                .push_bind(&event.event_type)
                .push_bind(&event.outcome)
                .push_bind(&event.agent_id)
                .push_bind(&event.task_id)
                .push_bind(&event.extra.actor)
                .push_bind(&event.extra.source)
                .push_bind(&event.extra.correlation_id)
                .push_bind(&event.extra.policy_uid)
                .push_bind(&event.extra.pod_uid)
                .push_bind(&event.extra.error_kind)
                .push_bind(json);
        });
        query
            .build()
            .execute(&mut *connection)
            .await
            .during("save_audit_event")?;
    }
    Ok(())
}

fn push_conditions(query: &mut QueryBuilder<Sqlite>, filter: &EventFilter) {
    query.push(" WHERE 1 = 1");
    for (column, value) in &filter.exact {
        query
            .push(" AND ")
            .push(column.as_str())
            .push(" = ")
            .push_bind(value.clone());
        // Lets the planner use the partial indexes.
        query.push(" AND ").push(column.as_str()).push(" <> ''");
    }
    if let Some(since) = filter.since {
        query.push(" AND at >= ").push_bind(since);
    }
    if let Some(until) = filter.until {
        query.push(" AND at <= ").push_bind(until);
    }
}

/// One page of the trail.
pub(super) async fn page(connection: &mut SqliteConnection, filter: &EventFilter) -> Result<EventPage> {
    let mut count = QueryBuilder::<Sqlite>::new("SELECT COUNT(*) FROM audit_events");
    push_conditions(&mut count, filter);
    let total: i64 = count
        .build_query_scalar()
        .fetch_one(&mut *connection)
        .await
        .during("count_audit_events")?;
    let mut select = QueryBuilder::<Sqlite>::new("SELECT json FROM audit_events");
    push_conditions(&mut select, filter);
    select
        .push(" ORDER BY seq LIMIT ")
        .push_bind(filter.limit)
        .push(" OFFSET ")
        .push_bind(filter.offset);
    let rows = select
        .build()
        .fetch_all(&mut *connection)
        .await
        .during("read_audit_events")?;
    let events = rows
        .iter()
        .map(|row| {
            row.try_get::<String, _>("json")
                .during("read_audit_events")
                .and_then(|json| parse(&json))
        })
        .collect::<Result<_>>()?;
    Ok(EventPage { events, total })
}

/// Verifies the end of the chain and returns its head.
///
/// # Errors
/// [`StoreError::BrokenChain`] naming the first event that doesn't fit.
pub(super) async fn verify_tail(connection: &mut SqliteConnection) -> Result<ChainHead> {
    let mut rows = sqlx::query("SELECT seq, json FROM audit_events ORDER BY seq DESC LIMIT ?")
        .bind(VERIFIED_AT_START + 1)
        .fetch_all(&mut *connection)
        .await
        .during("verify_audit_chain")?;
    rows.reverse();
    let mut head: Option<ChainHead> = None;
    for row in rows {
        let sequence: i64 = row.try_get("seq").during("verify_audit_chain")?;
        let event = parse(&row.try_get::<String, _>("json").during("verify_audit_chain")?)?;
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
