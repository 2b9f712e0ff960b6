//! One command's view of the open transaction.

use agentwrit_protocol::audit::AuditEvent;
use async_trait::async_trait;
use sqlx::SqliteConnection;
use time::OffsetDateTime;

use super::audit::{ChainHead, page};
use crate::store::{EventDraft, EventFilter, EventPage, Ledger, Meta, MetaKey, Nonces, Operation, Policies, Result};
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
    pub(crate) connection: &'c mut SqliteConnection,
    pub(crate) now: OffsetDateTime,
    pub(crate) head: ChainHead,
    pub(crate) events: Vec<SealedEvent>,
    pub(crate) changes: Vec<ViewChange>,
}

impl<'c> SqliteTx<'c> {
    pub(crate) fn new(connection: &'c mut SqliteConnection, now: OffsetDateTime, head: ChainHead) -> Self {
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
        page(self.connection, filter).await
    }
}

#[async_trait]
impl Nonces for SqliteTx<'_> {
    async fn consume_nonce(&mut self, nonce: &str, until: i64) -> Result<bool> {
        let done = sqlx::query("INSERT INTO nonces (nonce, until) VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(nonce)
            .bind(until)
            .execute(&mut *self.connection)
            .await
            .during("consume_nonce")?;
        Ok(done.rows_affected() == 1)
    }
}

#[async_trait]
impl Meta for SqliteTx<'_> {
    async fn meta(&mut self, key: MetaKey) -> Result<Option<String>> {
        sqlx::query_scalar("SELECT value FROM meta WHERE key = ?")
            .bind(key.as_str())
            .fetch_optional(&mut *self.connection)
            .await
            .during("read_meta")
    }

    async fn set_meta(&mut self, key: MetaKey, value: &str) -> Result<()> {
        sqlx::query(
            "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )
        .bind(key.as_str())
        .bind(value)
        .execute(&mut *self.connection)
        .await
        .during("write_meta")?;
        Ok(())
    }

    async fn prune(&mut self) -> Result<u64> {
        const HOUR: i64 = 3600;
        let (seconds, millis) = (self.now.unix_timestamp(), self.millis());
        let statements = [
            // A launch token answers "expired" or "already consumed" for an hour, then "not found".
            ("DELETE FROM launch_tokens WHERE expires_at < ?", millis - HOUR * 1000),
            ("DELETE FROM nonces WHERE until < ?", millis),
            ("DELETE FROM spent_tokens WHERE exp < ?", seconds),
            ("DELETE FROM revocations WHERE until < ?", millis),
            ("DELETE FROM sessions WHERE exp < ?", seconds - 25 * HOUR),
        ];
        let mut rows = 0;
        for (statement, limit) in statements {
            let done = sqlx::query(statement)
                .bind(limit)
                .execute(&mut *self.connection)
                .await
                .during("prune")?;
            rows += done.rows_affected();
        }
        self.purge_policy_rows().await?;
        Ok(rows)
    }
}
