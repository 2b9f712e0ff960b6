//! Apps: registration, look-up, change, deregistration (`docs/wire-contract.md` §12).

mod agent_app_login;
pub(crate) mod input;
pub(crate) mod login;

use agentwrit_protocol::apps::{LONGEST_TTL, RegisterAppRequest, UpdateAppRequest};
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::excerpt::{EVENT_SCOPES_BYTES, list_scopes};
use agentwrit_protocol::{Clock, EntropyError, Sensitive, Ttl};
use agentwrit_store::{
    AppRecord, Command, Result as StoreResult, Revocation, RevocationLevel, Store, StoreError, TakesAuthority, Tx,
};
use async_trait::async_trait;

use self::input::{AppChange, AppInputError, NewApp};
use crate::ids::IdGenerator;
use crate::passwords::{HashedSecrets, SecretError};
use crate::service::actor::Actor;
use crate::service::error::{Internal, from_internal};
use crate::service::scope_limits::ScopeLimits;

/// New ids tried before giving up: six hex characters seldom meet a second time.
const ATTEMPTS: usize = 4;

/// Why an app is not registered, found or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    #[error(transparent)]
    Input(#[from] AppInputError),
    #[error("an app named {0:?} is registered already")]
    NameTaken(String),
    #[error("app not found")]
    NotFound,
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("no free app id was found")]
    NoFreeId,
    #[error(transparent)]
    Internal(#[from] Internal),
}

from_internal!(AppError: StoreError, EntropyError);

/// A new app and its secret, which is shown only this once.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) app: AppRecord,
    /// 64 lower-hex characters.
    pub(crate) client_secret: Sensitive,
}

/// The apps that may create launch tokens.
pub(crate) struct Apps<'a> {
    pub(crate) store: &'a Store,
    pub(crate) secrets: &'a HashedSecrets,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) ids: &'a IdGenerator,
    pub(crate) scope_limits: ScopeLimits,
    /// Life of an app's tokens when none is asked for.
    pub(crate) token_ttl: Ttl,
}

impl Apps<'_> {
    pub(crate) async fn register(&self, request: RegisterAppRequest, actor: Actor) -> Result<Registered, AppError> {
        let wanted = NewApp::check(request, self.token_ttl, self.scope_limits)?;
        self.secrets.in_turn(self.enter(wanted, actor)).await
    }

    async fn enter(&self, wanted: NewApp, actor: Actor) -> Result<Registered, AppError> {
        // Decided again in the transaction; here it saves the hash.
        let name = wanted.name.to_string();
        let asked = name.clone();
        let taken = self
            .store
            .query(move |tx| Box::pin(async move { tx.app_name_is_taken(&asked).await }));
        if taken.await? {
            return Err(AppError::NameTaken(name));
        }
        let client_secret = Sensitive::from(self.ids.random_hex::<32>()?);
        let secret_hash = self.secrets.hash(&client_secret).await?;
        for _ in 0..ATTEMPTS {
            let now = self.clock.unix_seconds();
            let app = AppRecord {
                app_id: format!("app-{name}-{}", self.ids.random_hex::<3>()?),
                name: name.clone(),
                client_id: format!("{}-{}", wanted.name.abbreviation(), self.ids.random_hex::<6>()?),
                secret_hash: secret_hash.clone(),
                scopes: wanted.scopes.clone(),
                token_ttl: wanted.token_ttl,
                created_at: now,
                updated_at: now,
                deregistered_at: None,
            };
            let actor = actor.clone();
            match self.store.commit(Register { app, actor }).await? {
                Entered::Done(app) => {
                    self.secrets.made(&app.client_id, &client_secret, &app.secret_hash);
                    return Ok(Registered { app, client_secret });
                }
                Entered::NameTaken => return Err(AppError::NameTaken(name)),
                Entered::IdTaken => {}
            }
        }
        Err(AppError::NoFreeId)
    }

    /// Newest first.
    pub(crate) async fn list(&self) -> Result<Vec<AppRecord>, AppError> {
        Ok(self.store.query(|tx| tx.apps()).await?)
    }

    pub(crate) async fn get(&self, app_id: String) -> Result<AppRecord, AppError> {
        let found = self
            .store
            .query(move |tx| Box::pin(async move { tx.app(&app_id).await }));
        found.await?.ok_or(AppError::NotFound)
    }

    /// Changes all that is asked for, or nothing.
    pub(crate) async fn update(
        &self,
        app_id: String,
        request: UpdateAppRequest,
        actor: Actor,
    ) -> Result<AppRecord, AppError> {
        let change = AppChange::check(request, self.scope_limits)?;
        let command = Update { app_id, change, actor };
        self.store.commit(command).await?.ok_or(AppError::NotFound)
    }

    /// Deregisters an app for good and revokes its tokens; again changes nothing.
    pub(crate) async fn deregister(&self, app_id: String, actor: Actor) -> Result<AppRecord, AppError> {
        let longest = LONGEST_TTL.max(self.token_ttl);
        let command = Deregister { app_id, actor, longest };
        let app = self.store.commit(command).await?.ok_or(AppError::NotFound)?;
        self.secrets.forget(&app.client_id);
        Ok(app)
    }
}

enum Entered {
    Done(AppRecord),
    NameTaken,
    IdTaken,
}

struct Register {
    app: AppRecord,
    actor: Actor,
}

#[async_trait]
impl Command for Register {
    type Outcome = Entered;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<Entered> {
        let app = self.app;
        if tx.app_name_is_taken(&app.name).await? {
            return Ok(Entered::NameTaken);
        }
        if !tx.insert_app(&app).await? {
            return Ok(Entered::IdTaken);
        }
        let detail = format!(
            "app {} registered as client {}: scopes {}, token_ttl {}",
            app.app_id,
            app.client_id,
            list_scopes(&app.scopes.to_strings(), EVENT_SCOPES_BYTES),
            app.token_ttl
        );
        tx.audit(self.actor.event(EventType::AppRegistered, detail));
        Ok(Entered::Done(app))
    }
}

struct Update {
    app_id: String,
    change: AppChange,
    actor: Actor,
}

#[async_trait]
impl Command for Update {
    type Outcome = Option<AppRecord>;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<Option<AppRecord>> {
        let Some(mut app) = tx.app(&self.app_id).await? else {
            return Ok(None);
        };
        let mut changes = Vec::new();
        if let Some(scopes) = self.change.scopes.filter(|scopes| *scopes != app.scopes) {
            let text =
                |scopes: &agentwrit_protocol::ScopeSet| list_scopes(&scopes.to_strings(), EVENT_SCOPES_BYTES / 2);
            changes.push(format!("scopes set to {} (were {})", text(&scopes), text(&app.scopes)));
            app.scopes = scopes;
        }
        if let Some(ttl) = self.change.token_ttl.filter(|ttl| *ttl != app.token_ttl) {
            changes.push(format!("token_ttl set to {ttl} (was {})", app.token_ttl));
            app.token_ttl = ttl;
        }
        app.updated_at = tx.now_seconds();
        tx.update_app(&app).await?;
        for change in changes {
            let detail = format!("app {}: {change}", app.app_id);
            tx.audit(self.actor.event(EventType::AppUpdated, detail));
        }
        Ok(Some(app))
    }
}

#[derive(Clone)]
struct Deregister {
    app_id: String,
    actor: Actor,
    /// Longest life that an app's tokens can be given.
    longest: Ttl,
}

#[async_trait]
impl Command for Deregister {
    type Outcome = Option<AppRecord>;
    const TAKES_AUTHORITY: TakesAuthority<Self> = TakesAuthority::Again(Self::clone);

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<Option<AppRecord>> {
        let Some(mut app) = tx.app(&self.app_id).await? else {
            return Ok(None);
        };
        if !app.is_active() {
            return Ok(Some(app));
        }
        let now = tx.now_seconds();
        (app.updated_at, app.deregistered_at) = (now, Some(now));
        tx.update_app(&app).await?;
        let latest = tx.times().judged.second();
        // No token of the app was ever issued for longer, whatever AA_MAX_TTL is.
        let longest = self.longest.max(app.token_ttl);
        let revocation = Revocation {
            level: RevocationLevel::Agent,
            target: app.subject(),
            until: Some((latest + longest).end()),
        };
        tx.add_revocation(&revocation).await?;
        let detail = format!("app {} deregistered: its tokens are revoked", app.app_id);
        tx.audit(self.actor.event(EventType::AppDeregistered, detail));
        Ok(Some(app))
    }
}
