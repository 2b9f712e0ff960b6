//! Release: an agent gives its token back, and its session or delegation ends with all below it.

use agentwrit_limits::Asker;
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::session::ReleaseDecision;
use agentwrit_store::{
    Command, DenialDraft, EndReason, EventDraft, Result as StoreResult, Revocation, RevocationLevel, Store,
    TakesAuthority, Tx,
};
use async_trait::async_trait;
use prometheus::IntCounterVec;

use super::lineage::{StoredLineage, enrich};
use crate::service::origin::AuditOrigin;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Released {
    /// The token is dead now.
    Done,
    Already,
}

/// Ends the bearer's session or delegation; an admin's or app's token is revoked by its id.
pub(crate) async fn release(
    store: &Store,
    counted: &IntCounterVec,
    claims: &Claims,
    origin: AuditOrigin<'_>,
) -> StoreResult<Released> {
    let command = Release {
        bearer: claims.clone(),
        path: origin.resource.to_owned(),
        source: origin.source.to_string(),
    };
    let released = store.commit(command).await?;
    if released == Released::Done {
        counted.with_label_values(&["release"]).inc();
    }
    Ok(released)
}

#[derive(Clone)]
struct Release {
    bearer: Claims,
    path: String,
    source: String,
}

impl Release {
    /// Ends the token's session or delegation, or says why it had ended before.
    async fn end(&self, tx: &mut dyn Tx, lineage: Option<&StoredLineage>) -> StoreResult<Result<(), &'static str>> {
        let now = tx.now_millis();
        let Some(lineage) = lineage else {
            return self.revoke(tx).await;
        };
        match lineage.rules().release(&self.bearer.jti, now) {
            ReleaseDecision::Ended(reason) => Ok(Err(reason.as_str())),
            ReleaseDecision::Replaced => Ok(Err("renewed")),
            ReleaseDecision::Done => {
                tx.end_session(&lineage.node, EndReason::Released, now).await?;
                Ok(Ok(()))
            }
        }
    }

    /// For a token without a session.
    async fn revoke(&self, tx: &mut dyn Tx) -> StoreResult<Result<(), &'static str>> {
        if tx.is_revoked(RevocationLevel::Token, &self.bearer.jti).await? {
            return Ok(Err(EndReason::Revoked.as_str()));
        }
        let entry = Revocation {
            level: RevocationLevel::Token,
            target: self.bearer.jti.to_string(),
            until: Some(self.bearer.exp.end()),
        };
        tx.add_revocation(&entry).await?;
        Ok(Ok(()))
    }
}

#[async_trait]
impl Command for Release {
    type Outcome = Released;
    const TAKES_AUTHORITY: TakesAuthority<Self> = TakesAuthority::Again(Self::clone);

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<Released> {
        let lineage = StoredLineage::of(tx, &self.bearer).await?;
        match self.end(tx, lineage.as_ref()).await? {
            Ok(()) => {
                let detail = format!("token {} released", self.bearer.jti);
                let event = EventDraft::success(EventType::TokenReleased, detail);
                let event = enrich(event, &self.bearer, lineage.as_ref());
                tx.audit(event.actor(&self.bearer.sub).source(&self.source));
                Ok(Released::Done)
            }
            Err(kind) => {
                let denial = DenialDraft::denied(EventType::TokenRevokedAccess, "token has been revoked");
                let denial = enrich(denial, &self.bearer, lineage.as_ref());
                let denial = denial.resource(&self.path).error_kind(kind);
                let denial = denial.actor(&self.bearer.sub).source(&self.source);
                tx.deny(Asker::bearer(&self.bearer), denial);
                Ok(Released::Already)
            }
        }
    }
}
