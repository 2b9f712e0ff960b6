//! One command's view of the open transaction.

use std::sync::atomic::Ordering;

use agentwrit_protocol::{Clock, Times};
use agentwrit_store::segment::Segment;
use agentwrit_store::{
    AuditQuery, AuditSink, DenialGate, EventDraft, EventFilter, EventPage, Headroom, Result, TxClock, ViewChange,
};
use async_trait::async_trait;
use time::OffsetDateTime;

use crate::ahead::Ahead;
use crate::audit::query::page;
use crate::indexes::Indexes;
use crate::link::Link;
use crate::shared::Shared;
use crate::value::Value;

/// The transaction: a connection between BEGIN and COMMIT, and what the commit will publish.
pub(crate) struct PgTx<'t, 'c> {
    pub(crate) link: &'t mut Link<'c>,
    pub(crate) now: OffsetDateTime,
    pub(crate) times: Times,
    pub(crate) shared: &'t Shared,
    /// None for one that only reads.
    pub(crate) indexes: Option<&'t mut Indexes>,
    /// What is known already. None where nothing was foreseen.
    pub(crate) ahead: Option<&'t mut Ahead>,
    pub(crate) drafts: Vec<(OffsetDateTime, EventDraft)>,
    pub(crate) changes: Vec<ViewChange>,
    /// Segments that were taken out of the trail.
    pub(crate) dropped: Vec<Segment>,
}

impl<'t, 'c> PgTx<'t, 'c> {
    pub(crate) fn new(link: &'t mut Link<'c>, shared: &'t Shared, indexes: Option<&'t mut Indexes>) -> Self {
        Self {
            link,
            now: shared.clock.now(),
            times: shared.judging.times(),
            shared,
            indexes,
            ahead: None,
            drafts: Vec::new(),
            changes: Vec::new(),
            dropped: Vec::new(),
        }
    }

    /// Passes a change of revocations on to the listener, with the commit.
    pub(crate) fn view_change(&mut self, change: ViewChange) {
        self.changes.push(change);
    }

    /// Whether a statement changed any row.
    pub(crate) async fn changed(
        &mut self,
        operation: &'static str,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<bool> {
        Ok(self.link.change(operation, sql, values).await? > 0)
    }

    /// Whether a query finds any row.
    pub(crate) async fn any(&mut self, operation: &'static str, sql: &'static str, values: Vec<Value>) -> Result<bool> {
        Ok(self.link.first(operation, sql, values, |_| Ok(())).await?.is_some())
    }
}

impl AuditSink for PgTx<'_, '_> {
    fn audit(&mut self, draft: EventDraft) {
        self.drafts.push((self.now, draft));
    }

    fn gate(&self) -> &dyn DenialGate {
        self.shared.gate.as_ref()
    }
}

impl Headroom for PgTx<'_, '_> {
    fn only_takes_authority(&self) -> bool {
        self.shared.status.refusing.load(Ordering::SeqCst)
    }
}

impl TxClock for PgTx<'_, '_> {
    fn now(&self) -> OffsetDateTime {
        self.now
    }

    fn times(&self) -> Times {
        self.times
    }
}

#[async_trait]
impl AuditQuery for PgTx<'_, '_> {
    async fn events(&mut self, filter: &EventFilter) -> Result<EventPage> {
        page(self.link, filter, &self.shared.matches).await
    }
}
