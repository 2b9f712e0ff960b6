//! One command's view of the open transaction.

use std::sync::atomic::Ordering;

use agentwrit_protocol::{Clock, Times};
use agentwrit_store::segment::Segment;
use agentwrit_store::{
    AuditQuery, AuditSink, DenialGate, EventDraft, EventFilter, EventPage, Headroom, Result, StoreError, TxClock,
    ViewChange,
};
use agentwrit_trail::{FilterCache, Saved};
use async_trait::async_trait;
use futures_util::FutureExt;
use rusqlite::Connection;
use time::OffsetDateTime;

use super::indexes::Indexes;
use super::shared::Shared;
use super::status::StoreStatus;
use crate::audit::query::page;

/// The transaction: a connection between BEGIN and COMMIT, and what the commit will publish.
pub(crate) struct SqliteTx<'c> {
    pub(crate) connection: &'c mut Connection,
    pub(crate) now: OffsetDateTime,
    pub(crate) times: Times,
    matches: &'c FilterCache,
    gate: &'c dyn DenialGate,
    status: &'c StoreStatus,
    /// None for one that only reads.
    pub(crate) indexes: Option<&'c mut Indexes>,
    pub(crate) drafts: Vec<(OffsetDateTime, EventDraft)>,
    pub(crate) changes: Vec<ViewChange>,
    /// Segments that were taken out of the trail.
    pub(crate) dropped: Vec<Segment>,
    /// What events that were shortened take less.
    pub(crate) saved: Saved,
}

impl<'c> SqliteTx<'c> {
    pub(crate) fn new(connection: &'c mut Connection, shared: &'c Shared, indexes: Option<&'c mut Indexes>) -> Self {
        Self {
            connection,
            now: shared.clock.now(),
            times: shared.judging.times(),
            matches: &shared.matches,
            gate: shared.gate.as_ref(),
            status: &shared.status,
            indexes,
            drafts: Vec::new(),
            changes: Vec::new(),
            dropped: Vec::new(),
            saved: Saved::default(),
        }
    }

    /// Passes a change of revocations on to the listener, with the commit.
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
}

#[async_trait]
impl AuditQuery for SqliteTx<'_> {
    async fn events(&mut self, filter: &EventFilter) -> Result<EventPage> {
        page(self.connection, filter, self.matches)
    }
}

/// What a future answers that waits for nothing but the transaction: on this store each of those is a call of the library,
/// and ready at once. One that waits for anything else is a fault of its command, and must not hold up all others.
pub(crate) fn ready<T>(running: impl Future<Output = Result<T>>) -> Result<T> {
    running.now_or_never().unwrap_or(Err(StoreError::Waited))
}
