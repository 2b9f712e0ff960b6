//! Admin login.

use std::net::IpAddr;

use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::{Clock, EntropyError, Sensitive, Ttl};
use agentwrit_server::Source;
use agentwrit_store::{Command, DenialDraft, EventDraft, Result as StoreResult, Store, StoreError, TakesAuthority, Tx};
use async_trait::async_trait;
use prometheus::IntCounterVec;

use super::denial_auditor::DenialAuditor;
use super::error::{Internal, from_internal};
use super::session::token::{Issued, SignError, TokenIssuer};
use crate::config::{AdminAuth, known_to_everybody};
use crate::ids::IdGenerator;
use crate::passwords::{AdminSecrets, SecretError};

/// The scopes of an admin token, in this order.
pub(crate) const ADMIN_SCOPES: [&str; 3] = ["admin:launch-tokens:*", "admin:revoke:*", "admin:audit:*"];

/// Why there is no admin token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    /// `AA_ADMIN_AUTH=off`.
    #[error("admin login is off")]
    Off,
    #[error("invalid credentials")]
    Credentials,
    /// Nor could it be: no broker starts with that one.
    #[error("admin secret does not meet security requirements")]
    Weak,
    #[error(transparent)]
    Internal(#[from] Internal),
    #[error(transparent)]
    Secret(#[from] SecretError),
}

from_internal!(AdminError: StoreError, EntropyError, SignError);

/// Logs the admin in.
pub(crate) struct AdminLogin<'a> {
    pub(crate) auth: &'a AdminAuth,
    pub(crate) secrets: &'a AdminSecrets,
    pub(crate) store: &'a Store,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) ids: &'a IdGenerator,
    pub(crate) tokens: &'a TokenIssuer,
    pub(crate) denials: &'a DenialAuditor,
    pub(crate) counted: &'a IntCounterVec,
    /// Life of the token.
    pub(crate) ttl: Ttl,
}

impl AdminLogin<'_> {
    /// Whether there is an admin login at all: said before a body is looked at.
    pub(crate) fn check_enabled(&self) -> Result<(), AdminError> {
        match self.auth {
            AdminAuth::On(_) => Ok(()),
            AdminAuth::Off => Err(AdminError::Off),
        }
    }

    /// Trades the admin secret for a token.
    pub(crate) async fn login(&self, presented: Sensitive, source: IpAddr) -> Result<Issued, AdminError> {
        let AdminAuth::On(secrets) = self.auth else {
            return Err(AdminError::Off);
        };
        let secrets = secrets.clone();
        let weak = known_to_everybody(presented.expose());
        // Reads a file.
        let current = tokio::task::spawn_blocking(move || secrets.current());
        let (secret, problem) = current.await.map_err(|_| SecretError::Interrupted)?;
        if let Some(problem) = problem {
            tracing::warn!(target: "CFG", component = "AdminSecret", problem = %problem, "keeping the last good admin secret");
        }
        if !self.secrets.matches(&secret, presented, Source::of(source)).await? {
            self.counted.with_label_values(&["failure"]).inc();
            let event = DenialDraft::denied(EventType::AdminAuthFailed, "admin login refused: invalid credentials");
            self.denials.stranger(source, event.error_kind("invalid_credentials"));
            return Err(if weak {
                AdminError::Weak
            } else {
                AdminError::Credentials
            });
        }
        let claims = claims(self.tokens, self.ids, self.clock, self.ttl)?;
        let detail = format!("admin logged in, jti {}", claims.jti);
        let event = EventDraft::success(EventType::AdminAuth, detail)
            .actor("admin")
            .source(&source.to_string());
        self.store.commit(Login(event)).await?;
        self.counted.with_label_values(&["success"]).inc();
        Ok(self.tokens.sign(&claims)?)
    }
}

/// Claims of a new admin token.
pub(crate) fn claims(
    tokens: &TokenIssuer,
    ids: &IdGenerator,
    clock: &dyn Clock,
    ttl: Ttl,
) -> Result<Claims, EntropyError> {
    Ok(tokens.claims(
        "admin",
        &ADMIN_SCOPES,
        ids.random_hex::<16>()?.into(),
        clock.unix_seconds(),
        ttl,
    ))
}

#[derive(Clone)]
struct Login(EventDraft);

#[async_trait]
impl Command for Login {
    type Outcome = ();
    const ISSUES: bool = true;
    /// A person who wants to revoke logs in first.
    const TAKES_AUTHORITY: TakesAuthority<Self> = TakesAuthority::Again(Self::clone);

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<()> {
        tx.audit(self.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::config::{AdminSecret, SecretSource};

    #[tokio::test]
    async fn a_known_secret_passes_while_wrong_ones_fill_the_queue() {
        let hash = bcrypt::hash("correct horse battery", 4).unwrap();
        let auth = AdminAuth::On(SecretSource::Environment(AdminSecret::Bcrypt(hash.as_str().into())));
        let mut secrets = AdminSecrets::new([1; 32], [2; 32]);
        let broker = crate::testing::broker().await;
        let login = async |secrets: &AdminSecrets, presented: &str| {
            let login = AdminLogin {
                auth: &auth,
                secrets,
                ..broker.admin_login()
            };
            login.login(presented.into(), Ipv4Addr::LOCALHOST.into()).await
        };
        let wrong = login(&secrets, "wrong").await;
        assert!(matches!(wrong, Err(AdminError::Credentials)), "{wrong:?}");
        assert!(login(&secrets, "correct horse battery").await.is_ok());
        secrets.crowd();
        let late = login(&secrets, "wrong").await;
        assert!(matches!(late, Err(AdminError::Secret(SecretError::Busy))), "{late:?}");
        assert!(login(&secrets, "correct horse battery").await.is_ok());
    }
}
