//! Denials on their way into the audit trail; beyond the rate of its asker, a denial is only counted.

use std::net::IpAddr;
use std::sync::Arc;

use agentwrit_limits::Limits;
use agentwrit_protocol::SessionId;
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::claims::Claims;
use agentwrit_store::{Asker, Command, DenialDraft, EventDraft, Result, Store, Tx};
use async_trait::async_trait;

use super::origin::AuditOrigin;
use crate::metrics::Metrics;

/// Audits denials outside of other commands.
pub struct DenialAuditor {
    store: Store,
    limits: Arc<Limits>,
    metrics: Arc<Metrics>,
}

impl DenialAuditor {
    pub(crate) fn new(store: Store, limits: Arc<Limits>, metrics: Arc<Metrics>) -> Self {
        Self { store, limits, metrics }
    }

    /// Of a caller without a verified credential; does not wait for the commit.
    pub(crate) fn stranger(&self, source: IpAddr, denial: DenialDraft) {
        let denial = denial.source(&source.to_string());
        if let Some(event) = self.limits.pass(Asker::Source(source), denial)
            && !self.store.append(event)
        {
            self.limits.suppress();
        }
    }

    /// Of a 429: one for each source and endpoint now and then.
    pub(crate) fn rate_limit(&self, origin: AuditOrigin<'_>) {
        if self.limits.audits_hit(origin.source, origin.resource) {
            let event = DenialDraft::denied(EventType::AppRateLimited, "rate limit exceeded");
            self.stranger(
                origin.source,
                event.resource(origin.resource).error_kind("rate_limited"),
            );
        } else {
            self.metrics.denials_suppressed.inc();
        }
    }

    /// Of a verified bearer, with what its session knows; committed when this returns.
    pub(crate) async fn bearer(&self, origin: AuditOrigin<'_>, claims: &Claims, denial: DenialDraft) -> Result<()> {
        let denial = denial
            .agent(&claims.sub)
            .task(&claims.task_id)
            .orchestration(&claims.orch_id)
            .resource(origin.resource)
            .actor(&claims.sub)
            .source(&origin.source.to_string());
        let Some(event) = self.limits.pass(Asker::bearer(claims), denial) else {
            return Ok(());
        };
        let sid = claims.sid.clone();
        self.store.commit(AuditBearer { event, sid }).await
    }

    /// Of an admin or app; committed when this returns.
    pub(crate) async fn admin_or_app(&self, subject: &str, denial: DenialDraft) -> Result<()> {
        match self.limits.pass(Asker::Known(subject), denial) {
            Some(event) => self.store.record(event).await,
            None => Ok(()),
        }
    }

    /// Writes into the trail how many denials were only counted.
    pub fn flush_suppressed(&self) {
        if let Some((suppressed, event)) = self.limits.take_suppressed()
            && !self.store.append(event)
        {
            self.limits.restore_suppressed(suppressed);
            tracing::warn!(target: "AUDIT", component = "Denials", suppressed, "not even their number could be queued yet");
        }
    }
}

struct AuditBearer {
    event: EventDraft,
    sid: SessionId,
}

#[async_trait]
impl Command for AuditBearer {
    type Outcome = ();

    async fn run(self, tx: &mut dyn Tx) -> Result<()> {
        let session = if self.sid.is_empty() {
            None
        } else {
            tx.session(&self.sid).await?
        };
        let event = match session {
            Some(session) => self.event.within_session(&session),
            None => self.event,
        };
        tx.audit(event);
        Ok(())
    }
}
