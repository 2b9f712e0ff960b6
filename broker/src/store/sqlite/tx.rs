//! One command's view of the open transaction.

use agentwrit_protocol::audit::AuditEvent;
use async_trait::async_trait;
use rusqlite::Connection;
use time::OffsetDateTime;

use super::audit::{ChainHead, page};
use crate::store::{EventDraft, EventFilter, EventPage, Ledger, Result};
use crate::timestamp::{nanos, rfc3339_nanos};
use crate::view::ViewChange;

/// A sealed event that waits for its row.
pub(crate) struct SealedEvent {
    pub(crate) sequence: i64,
    pub(crate) at_nanos: i64,
    pub(crate) event: AuditEvent,
}

/// The transaction: a connection between BEGIN and COMMIT, and what the commit will publish.
pub(crate) struct SqliteTx<'c> {
    pub(crate) connection: &'c mut Connection,
    pub(crate) now: OffsetDateTime,
    pub(crate) head: ChainHead,
    pub(crate) events: Vec<SealedEvent>,
    pub(crate) changes: Vec<ViewChange>,
}

impl<'c> SqliteTx<'c> {
    pub(crate) fn new(connection: &'c mut Connection, now: OffsetDateTime, head: ChainHead) -> Self {
        Self {
            connection,
            now,
            head,
            events: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// Milliseconds since the Unix epoch at the start of the command.
    pub(crate) fn millis(&self) -> i64 {
        let seconds = self.now.unix_timestamp().saturating_mul(1000);
        seconds.saturating_add(i64::from(self.now.millisecond()))
    }
}

#[async_trait]
impl Ledger for SqliteTx<'_> {
    fn audit(&mut self, draft: EventDraft) {
        let mut event = AuditEvent {
            timestamp: rfc3339_nanos(self.now),
            event_type: draft.event_type.as_str().to_owned(),
            outcome: draft.outcome.as_str().to_owned(),
            agent_id: draft.agent_id,
            task_id: draft.task_id,
            orch_id: draft.orch_id,
            detail: draft.detail,
            resource: draft.resource,
            deleg_depth: draft.deleg_depth,
            deleg_chain_hash: draft.deleg_chain_hash,
            extra: draft.extra,
            ..AuditEvent::default()
        };
        let sequence = self.head.sequence.saturating_add(1);
        event.seal(sequence, &self.head.hash);
        self.head = ChainHead {
            sequence,
            hash: event.hash.clone(),
        };
        self.events.push(SealedEvent {
            sequence,
            at_nanos: nanos(self.now),
            event,
        });
    }

    fn view_change(&mut self, change: ViewChange) {
        self.changes.push(change);
    }

    fn now(&self) -> OffsetDateTime {
        self.now
    }

    fn now_millis(&self) -> i64 {
        self.millis()
    }

    async fn events(&mut self, filter: &EventFilter) -> Result<EventPage> {
        page(self.connection, filter)
    }
}
