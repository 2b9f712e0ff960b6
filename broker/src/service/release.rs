//! Release: an agent gives its token back, and its session ends.

use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::claims::Claims;
use async_trait::async_trait;

use crate::broker::Broker;
use crate::store::{
    Command, EndReason, EventDraft, Result as StoreResult, Revocation, RevocationLevel, StoreError, Tx,
};
use crate::view::ViewChange;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// The token is dead now.
    Done,
    /// Somebody was first.
    Already(EndReason),
}

/// Ends the bearer's session; an admin's or app's token is revoked by its id.
///
/// # Errors
/// When the store fails.
pub async fn release(broker: &Broker, claims: &Claims, path: &str, source: &str) -> Result<Released, StoreError> {
    let command = Release {
        bearer: claims.clone(),
        path: path.to_owned(),
        source: source.to_owned(),
    };
    let released = broker.store.commit(command).await?;
    if released == Released::Done {
        broker.metrics.tokens_revoked.with_label_values(&["release"]).inc();
    }
    Ok(released)
}

struct Release {
    bearer: Claims,
    path: String,
    source: String,
}

#[async_trait]
impl Command for Release {
    type Outcome = Released;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<Released> {
        let bearer = &self.bearer;
        let session = if bearer.sid.is_empty() {
            None
        } else {
            tx.session(&bearer.sid).await?
        };
        let ids = |event: EventDraft| {
            let event = event
                .ids(&bearer.sub, &bearer.task_id, &bearer.orch_id)
                .actor(&bearer.sub)
                .source(&self.source);
            match &session {
                Some(session) => event.of_session(session),
                None => event,
            }
        };
        let now = tx.now_millis();
        if let Some(reason) = session.as_ref().and_then(|session| session.ended(now)) {
            let event =
                EventDraft::denied(EventType::TokenRevokedAccess, "token has been revoked").resource(&self.path);
            tx.audit(ids(event.error_kind(reason.as_str())));
            return Ok(Released::Already(reason));
        }
        if let Some(session) = &session {
            tx.end_session(session, EndReason::Released, now).await?;
        } else {
            let entry = Revocation {
                level: RevocationLevel::Token,
                target: bearer.jti.clone(),
                until: Some(ViewChange::end_of_second(bearer.exp)),
            };
            tx.add_revocation(&entry).await?;
        }
        tx.audit(ids(EventDraft::success(
            EventType::TokenReleased,
            format!("token {} released", bearer.jti),
        )));
        Ok(Released::Done)
    }
}
