//! Login of apps (`docs/wire-contract.md` §12.3).

use std::net::IpAddr;

use agentwrit_protocol::apps::APP_SCOPES;
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::{EntropyError, Sensitive};
use agentwrit_server::Source;
use agentwrit_store::{AppRecord, Command, DenialDraft, EventDraft, Result as StoreResult, StoreError, Tx};
use async_trait::async_trait;

use crate::broker::Broker;
use crate::passwords::SecretError;
use crate::service::error::{Internal, from_internal};
use crate::service::session::token::{Issued, SignError, audience, sign};

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The client is unknown, deregistered, or presents another secret: nobody hears which.
    #[error("Authentication failed")]
    Credentials,
    /// The secret can't be compared now.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A failure inside.
    #[error(transparent)]
    Internal(#[from] Internal),
}

from_internal!(LoginError: StoreError, EntropyError, SignError);

/// Trades an app's credentials for its token.
///
/// # Errors
/// When the credentials are not those of an active app.
pub async fn login(
    broker: &Broker,
    client_id: String,
    presented: Sensitive,
    source: IpAddr,
) -> Result<Issued, LoginError> {
    let asked = client_id.clone();
    let app = broker
        .store
        .query(move |tx| Box::pin(async move { tx.app_by_client_id(&asked).await }));
    let found = broker.read_for(Source::of(source), app).await?;
    let active = found.as_ref().filter(|app| app.is_active());
    let matches = broker
        .client_secrets
        .matches(
            &client_id,
            presented,
            active.map(|app| &app.secret_hash),
            Source::of(source),
        )
        .await?;
    let app = match (active, &found) {
        (Some(app), _) if matches => app,
        (Some(app), _) => return Err(refuse(broker, source, Reason::Secret, Some(app))),
        (None, Some(app)) => return Err(refuse(broker, source, Reason::Inactive, Some(app))),
        (None, None) => return Err(refuse(broker, source, Reason::Unknown, None)),
    };
    let claims = claims(broker, app)?;
    let detail = format!("app {} logged in, jti {}", app.app_id, claims.jti);
    let event = EventDraft::success(EventType::AppAuthenticated, detail)
        .actor(&claims.sub)
        .source(&source.to_string());
    let app_id = app.app_id.clone();
    if !broker.store.commit(Login { app_id, event }).await? {
        return Err(refuse(broker, source, Reason::Inactive, Some(app)));
    }
    Ok(sign(broker, &claims)?)
}

#[derive(Clone, Copy)]
enum Reason {
    Unknown,
    Inactive,
    Secret,
}

/// The trail hears why. What a caller says its client id is isn't repeated: it may be a secret in the wrong place.
fn refuse(broker: &Broker, source: IpAddr, reason: Reason, app: Option<&AppRecord>) -> LoginError {
    let (why, kind) = match reason {
        Reason::Unknown => ("no such client", "unknown_client"),
        Reason::Inactive => ("deregistered app", "inactive_app"),
        Reason::Secret => ("wrong credentials of app", "wrong_credentials"),
    };
    let app_id = app.map(|app| format!(" {}", app.app_id)).unwrap_or_default();
    let event = DenialDraft::denied(EventType::AppAuthFailed, format!("app login refused: {why}{app_id}"));
    broker.audit_denial(source, event.error_kind(kind));
    LoginError::Credentials
}

fn claims(broker: &Broker, app: &AppRecord) -> Result<Claims, EntropyError> {
    let now = broker.clock.unix_seconds();
    Ok(Claims {
        iss: broker.config.issuer.clone(),
        sub: app.subject(),
        aud: audience(broker),
        exp: now.saturating_add(broker.config.clamp_ttl(app.token_ttl)),
        nbf: now,
        iat: now,
        jti: broker.ids.random_hex::<16>()?,
        sid: String::new(),
        scope: APP_SCOPES.map(str::to_owned).to_vec(),
        task_id: String::new(),
        orch_id: String::new(),
        delegation_chain: Vec::new(),
        delegation_nodes: Vec::new(),
        chain_hash: String::new(),
    })
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
