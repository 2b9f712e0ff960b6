//! The trail of another store: its events, each as it is served, in its segments.

use agentwrit_protocol::UnixMillis;
use agentwrit_protocol::audit::{AuditEvent, Break, BreakKind};
use agentwrit_store::content::{EventRow, Origin, SealedSegment};
use agentwrit_store::{Segment, StoreError};
use agentwrit_trail::{ChainHead, Growing, Kept, SealedEvent, corrupt};
use deadpool_postgres::ClientWrapper;
use tokio_postgres::types::Type;

use super::error::{ArrivalError, Result};
use super::{MOVE, copy, copy_sql};
use crate::audit::events::cost;
use crate::link::Link;
use crate::value::{Value, values};

const COLUMNS: [&str; 14] = [
    "segment",
    "seq",
    "at",
    "event_type",
    "outcome",
    "agent_id",
    "task_id",
    "actor",
    "source",
    "correlation_id",
    "policy_uid",
    "pod_uid",
    "error_kind",
    "json",
];
/// The first of them are whole numbers.
const WHOLES: usize = 3;

/// The trail as far as it has arrived.
pub(super) struct Trail {
    sql: String,
    kinds: Vec<Type>,
    first: i64,
    /// Number and hash of the last event.
    last: (i64, String),
    kept: Kept,
}

impl Trail {
    /// A trail that begins with the first event that is kept, in the partition of the first segment.
    pub(super) async fn begin(client: &ClientWrapper, origin: &Origin) -> Result<Self> {
        let first = origin.first_kept;
        if first > 1 {
            // `open_segment` lets no segment begin in the middle of nothing.
            let sql = format!(
                "DROP TABLE audit_events_1; \
                 CREATE TABLE audit_events_{first} (LIKE audit_events INCLUDING DEFAULTS INCLUDING CONSTRAINTS); \
                 ALTER TABLE audit_events ATTACH PARTITION audit_events_{first} FOR VALUES FROM ({first}) TO ({})",
                first.saturating_add(1)
            );
            client.batch_execute(&sql).await.map_err(ArrivalError::of(MOVE))?;
        }
        let kind = |place: usize| if place < WHOLES { Type::INT8 } else { Type::TEXT };
        Ok(Self {
            sql: copy_sql("audit_events", &COLUMNS),
            kinds: (0..COLUMNS.len()).map(kind).collect(),
            first,
            last: (first.saturating_sub(1), String::new()),
            kept: Kept {
                first,
                growing: Growing::from(first),
                ..Kept::default()
            },
        })
    }

    /// How many events have arrived.
    pub(super) fn moved(&self) -> i64 {
        self.last.0.saturating_add(1).saturating_sub(self.first)
    }

    /// Writes the next events.
    pub(super) async fn append(&mut self, client: &ClientWrapper, events: Vec<EventRow>) -> Result<()> {
        let segment = self.kept.growing.first;
        let mut rows = Vec::with_capacity(events.len());
        for EventRow { sequence, at, json } in events {
            if sequence != self.last.0.saturating_add(1) {
                let kind = BreakKind::Id(AuditEvent::id_for(sequence));
                let sequence = self.last.0.saturating_add(1);
                return Err(StoreError::BrokenChain(Break { sequence, kind }).into());
            }
            let event: AuditEvent = serde_json::from_str(&json).map_err(corrupt)?;
            let sealed = SealedEvent {
                sequence,
                at,
                event,
                json,
            };
            self.kept.appended(at, cost(&sealed), &sealed.event.hash);
            self.last = (sequence, sealed.event.hash.clone());
            rows.push(columns(segment, sealed));
        }
        copy(client, &self.sql, &self.kinds, rows.into_iter()).await
    }

    /// Seals the segment that the events so far end, and opens the next. What its events take is counted anew.
    pub(super) async fn seal(&mut self, client: &ClientWrapper, sealed: &SealedSegment) -> Result<()> {
        let told = &sealed.segment;
        let (last, hash) = &self.last;
        let made = self.kept.seal(*last, hash);
        let expected = Segment {
            bytes: made.bytes,
            exported: None,
            ..told.clone()
        };
        if made != expected {
            return Err(corrupt(format_args!(
                "the segment of event {} isn't what its events say",
                told.first
            ))
            .into());
        }
        let sql = "INSERT INTO audit_segments (first, last, bytes, first_at, last_at, first_hash, head, exported_at, file, \
                   sha256) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let values = values![
            made.first,
            made.last,
            made.bytes,
            made.first_at.get(),
            made.last_at.get(),
            &made.first_hash,
            &made.head,
            sealed.exported_at.map(UnixMillis::get),
            told.exported.as_ref().map(|file| file.name.as_str()),
            told.exported.as_ref().map(|file| file.sha256.as_str()),
        ];
        let mut link = Link::new(client);
        link.change(MOVE, sql, values).await?;
        let next = made.last.saturating_add(1);
        link.change(MOVE, "SELECT open_segment($1)", values![next]).await?;
        Ok(())
    }

    /// The head of the chain, all of which has arrived.
    pub(super) fn end(self, origin: &Origin) -> Result<ChainHead> {
        let (sequence, hash) = self.last;
        if sequence != origin.sequence || (hash != origin.hash && sequence > 0) {
            return Err(ArrivalError::Different("the audit trail".to_owned()));
        }
        Ok(ChainHead {
            sequence,
            hash: origin.hash.clone(),
            checkpoint: origin.checkpoint,
            signed: origin.signed,
            unsigned_since: origin.unsigned_since,
            foreign: false,
            kept: self.kept,
        })
    }
}

/// An event's row, in the order of [`COLUMNS`].
fn columns(segment: i64, sealed: SealedEvent) -> Vec<Value> {
    let event = sealed.event;
    let extra = event.extra;
    values![
        segment,
        sealed.sequence,
        sealed.at.get(),
        event.event_type,
        event.outcome,
        event.agent_id,
        event.task_id,
        extra.actor,
        extra.source,
        extra.correlation_id,
        extra.policy_uid,
        extra.pod_uid,
        extra.error_kind,
        sealed.json,
    ]
}
