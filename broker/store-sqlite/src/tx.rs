//! One command's view of the open transaction.

use std::sync::atomic::Ordering;

use agentwrit_protocol::{Clock, Times};
use async_trait::async_trait;
use rusqlite::Connection;
use time::OffsetDateTime;

use super::shared::Shared;
use super::status::StoreStatus;
use crate::audit::filter_cache::Matches;
use crate::audit::query::page;
use crate::audit::segments::Saved;
use agentwrit_store::segment::Segment;
use agentwrit_store::{
    AuditQuery, AuditSink, DenialGate, EventDraft, EventFilter, EventPage, Headroom, Result, TxClock, ViewChange,
};

/// The transaction: a connection between BEGIN and COMMIT, and what the commit will publish.
pub(crate) struct SqliteTx<'c> {
    pub(crate) connection: &'c mut Connection,
    pub(crate) now: OffsetDateTime,
    pub(crate) times: Times,
    matches: &'c Matches,
    gate: &'c dyn DenialGate,
    status: &'c StoreStatus,
    pub(crate) drafts: Vec<(OffsetDateTime, EventDraft)>,
    pub(crate) changes: Vec<ViewChange>,
    /// Segments that were taken out of the trail.
    pub(crate) dropped: Vec<Segment>,
    /// What events that were shortened take less.
    pub(crate) saved: Saved,
}

impl<'c> SqliteTx<'c> {
    pub(crate) fn new(connection: &'c mut Connection, shared: &'c Shared) -> Self {
        Self {
            connection,
            now: shared.clock.now(),
            times: shared.judging.times(),
            matches: &shared.matches,
            gate: shared.gate.as_ref(),
            status: &shared.status,
            drafts: Vec::new(),
            changes: Vec::new(),
            dropped: Vec::new(),
            saved: Saved::default(),
        }
    }

    /// Milliseconds since the Unix epoch at the start of the command.
    pub(crate) fn millis(&self) -> i64 {
        let seconds = self.now.unix_timestamp().saturating_mul(1000);
        seconds.saturating_add(i64::from(self.now.millisecond()))
    }

    /// Tells whoever follows revocations of a change, with the commit.
    pub(crate) fn view_change(&mut self, change: ViewChange) {
        self.changes.push(change);
    }
}

impl AuditSink for SqliteTx<'_> {
    fn audit(&mut self, draft: EventDraft) {
        self.drafts.push((self.now, draft));
    }

    fn gate(&self) -> &dyn DenialGate {
        self.gate
    }
}

impl Headroom for SqliteTx<'_> {
    fn only_takes_authority(&self) -> bool {
        self.status.space.full() || self.status.refusing.load(Ordering::SeqCst)
    }
}

impl TxClock for SqliteTx<'_> {
    fn now(&self) -> OffsetDateTime {
        self.now
    }

    fn times(&self) -> Times {
        self.times
    }

    fn now_millis(&self) -> i64 {
        self.millis()
    }
}

#[async_trait]
impl AuditQuery for SqliteTx<'_> {
    async fn events(&mut self, filter: &EventFilter) -> Result<EventPage> {
        page(self.connection, filter, self.matches)
    }
}
