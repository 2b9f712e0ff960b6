//! Login of apps (`docs/wire-contract.md` §12.3).

use std::net::IpAddr;

use agentwrit_protocol::apps::APP_SCOPES;
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::k8s::clients::is_client_id;
use agentwrit_protocol::{Clock, EntropyError, Sensitive};
use agentwrit_server::Source;
use agentwrit_store::{Command, DenialDraft, EventDraft, Result as StoreResult, Store, StoreError, Tx};
use async_trait::async_trait;

use crate::config::Config;
use crate::ids::IdGenerator;
use crate::passwords::{HashedSecrets, SecretError};
use crate::service::denial_auditor::DenialAuditor;
use crate::service::error::{Internal, from_internal};
use crate::service::session::token::{Issued, SignError, TokenIssuer};
use crate::service::stranger_reads::StrangerReads;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    /// The client is unknown, deregistered, or presents another secret: the answer does not say which.
    #[error("Authentication failed")]
    Credentials,
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Internal(#[from] Internal),
}

from_internal!(LoginError: StoreError, EntropyError, SignError);

pub(crate) struct AppLogin<'a> {
    pub(crate) store: &'a Store,
    pub(crate) strangers: &'a StrangerReads,
    pub(crate) secrets: &'a HashedSecrets,
    pub(crate) denials: &'a DenialAuditor,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) ids: &'a IdGenerator,
    pub(crate) tokens: &'a TokenIssuer,
    pub(crate) config: &'a Config,
}

impl AppLogin<'_> {
    /// Trades an app's credentials for its token.
    pub(crate) async fn login(
        &self,
        client_id: String,
        presented: Sensitive,
        source: IpAddr,
    ) -> Result<Issued, LoginError> {
        if is_client_id(&client_id) {
            return self.login_of_agent_app(client_id, presented, source).await;
        }
        let asked = client_id.clone();
        let app = self
            .store
            .query(move |tx| Box::pin(async move { tx.app_by_client_id(&asked).await }));
        let found = self.strangers.read(Source::of(source), app).await?;
        let active = found.as_ref().filter(|app| app.is_active());
        let stored = active.map(|app| &app.secret_hash);
        let matches = self
            .secrets
            .matches(&client_id, presented, stored, Source::of(source))
            .await?;
        let app = match (active, &found) {
            (Some(app), _) if matches => app,
            (Some(app), _) => return Err(self.refuse(source, Reason::Secret, Some(&app.app_id))),
            (None, Some(app)) => return Err(self.refuse(source, Reason::Inactive, Some(&app.app_id))),
            (None, None) => return Err(self.refuse(source, Reason::Unknown, None)),
        };
        let (jti, now) = (self.ids.random_hex::<16>()?, self.clock.unix_seconds());
        let ttl = self.config.clamp_ttl(app.token_ttl);
        let claims = self.tokens.claims(&app.subject(), &APP_SCOPES, jti.into(), now, ttl);
        let detail = format!("app {} logged in, jti {}", app.app_id, claims.jti);
        let event = EventDraft::success(EventType::AppAuthenticated, detail)
            .actor(&claims.sub)
            .source(&source.to_string());
        let app_id = app.app_id.clone();
        if !self.store.commit(Login { app_id, event }).await? {
            return Err(self.refuse(source, Reason::Inactive, Some(&app.app_id)));
        }
        Ok(self.tokens.sign(&claims)?)
    }

    /// The trail hears why. What a caller says its client id is isn't repeated: it may be a secret in the wrong place.
    pub(super) fn refuse(&self, source: IpAddr, reason: Reason, app_id: Option<&str>) -> LoginError {
        let (why, kind) = match reason {
            Reason::Unknown => ("no such client", "unknown_client"),
            Reason::Inactive => ("deregistered app", "inactive_app"),
            Reason::Suspended => ("suspended app", "suspended_app"),
            Reason::Secret => ("wrong credentials of app", "wrong_credentials"),
        };
        let app_id = app_id.map(|app_id| format!(" {app_id}")).unwrap_or_default();
        let event = DenialDraft::denied(EventType::AppAuthFailed, format!("app login refused: {why}{app_id}"));
        self.denials.stranger(source, event.error_kind(kind));
        LoginError::Credentials
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Unknown,
    Inactive,
    /// The AgentApp is.
    Suspended,
    Secret,
}

struct Login {
    app_id: String,
    event: EventDraft,
}

#[async_trait]
impl Command for Login {
    /// False when the app was deregistered meanwhile.
    type Outcome = bool;
    const ISSUES: bool = true;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<bool> {
        let active = tx.app(&self.app_id).await?.is_some_and(|app| app.is_active());
        if active {
            tx.audit(self.event);
        }
        Ok(active)
    }
}
