//! Admin login.

use std::net::IpAddr;

use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::{EntropyError, Sensitive};
use agentwrit_server::Source;
use agentwrit_store::{Command, DenialDraft, EventDraft, Result as StoreResult, StoreError, Tx};
use async_trait::async_trait;

use super::error::{Internal, from_internal};
use super::session::token::{Issued, SignError, audience, sign};
use crate::broker::Broker;
use crate::config::{AdminAuth, AdminSecret, equal, known_to_everybody};
use crate::passwords::SecretError;

/// The scopes of an admin token, in this order.
pub const ADMIN_SCOPES: [&str; 3] = ["admin:launch-tokens:*", "admin:revoke:*", "admin:audit:*"];

/// Why there is no admin token.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// `AA_ADMIN_AUTH=off`.
    #[error("admin login is off")]
    Off,
    /// The secret is not the right one.
    #[error("invalid credentials")]
    Credentials,
    /// Nor could it be: no broker starts with that one.
    #[error("admin secret does not meet security requirements")]
    Weak,
    /// A failure inside.
    #[error(transparent)]
    Internal(#[from] Internal),
    /// The secret can't be compared now.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

from_internal!(AdminError: StoreError, EntropyError, SignError);

/// Whether there is an admin login at all: said before a body is looked at.
///
/// # Errors
/// When login is off.
pub fn check_enabled(broker: &Broker) -> Result<(), AdminError> {
    match broker.config.admin {
        AdminAuth::On(_) => Ok(()),
        AdminAuth::Off => Err(AdminError::Off),
    }
}

/// Trades the admin secret for a token.
///
/// # Errors
/// When the secret is wrong, or login is off.
pub async fn login(broker: &Broker, presented: Sensitive, source: IpAddr) -> Result<Issued, AdminError> {
    let AdminAuth::On(secrets) = &broker.config.admin else {
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
    if !matches(broker, &secret, presented, Source::of(source)).await? {
        broker.metrics.admin_auth.with_label_values(&["failure"]).inc();
        let event = DenialDraft::denied(EventType::AdminAuthFailed, "admin login refused: invalid credentials");
        broker.audit_denial(source, event.error_kind("invalid_credentials"));
        return Err(if weak {
            AdminError::Weak
        } else {
            AdminError::Credentials
        });
    }
    let claims = claims(
        broker,
        broker.config.clamp_ttl(broker.config.admin_token_ttl),
        audience(broker),
    )?;
    let detail = format!("admin logged in, jti {}", claims.jti);
    let event = EventDraft::success(EventType::AdminAuth, detail)
        .actor("admin")
        .source(&source.to_string());
    broker.store.commit(Login(event)).await?;
    broker.metrics.admin_auth.with_label_values(&["success"]).inc();
    Ok(sign(broker, &claims)?)
}

async fn matches(
    broker: &Broker,
    secret: &AdminSecret,
    presented: Sensitive,
    source: Source,
) -> Result<bool, SecretError> {
    match secret {
        AdminSecret::Plain(secret) => Ok(equal(secret, &presented, &broker.compare_key)),
        AdminSecret::Bcrypt(hash) => match broker
            .admin_secrets
            .matches("admin", presented, Some(hash), source)
            .await
        {
            // A hash that nothing can be compared with matches nothing.
            Err(SecretError::Bcrypt) => Ok(false),
            compared => compared,
        },
    }
}

/// Claims of a new admin token.
///
/// # Errors
/// When there is no randomness.
pub fn claims(broker: &Broker, ttl: i64, aud: Vec<String>) -> Result<Claims, EntropyError> {
    let now = broker.clock.unix_seconds();
    Ok(Claims {
        iss: broker.config.issuer.clone(),
        sub: "admin".to_owned(),
        aud,
        exp: now.saturating_add(ttl),
        nbf: now,
        iat: now,
        jti: broker.ids.random_hex::<16>()?,
        sid: String::new(),
        scope: ADMIN_SCOPES.map(str::to_owned).to_vec(),
        task_id: String::new(),
        orch_id: String::new(),
        delegation_chain: Vec::new(),
        chain_hash: String::new(),
        delegation_nodes: Vec::new(),
    })
}

#[derive(Clone)]
struct Login(EventDraft);

#[async_trait]
impl Command for Login {
    type Outcome = ();
    const ISSUES: bool = true;
    /// Whoever wants to revoke logs in first.
    const TAKES_AUTHORITY: bool = true;

    fn again(&self) -> Option<Self> {
        Some(self.clone())
    }

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<()> {
        tx.audit(self.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::config::SecretSource;

    #[tokio::test]
    async fn a_flood_of_wrong_secrets_finds_the_line_full_but_the_one_that_was_right_passes_by() {
        let hash = bcrypt::hash("correct horse battery", 4).unwrap();
        let secret = AdminSecret::Bcrypt(hash.as_str().into());
        let mut broker = crate::testing::broker().await;
        let source = IpAddr::from(Ipv4Addr::LOCALHOST);
        Arc::get_mut(&mut broker).unwrap().config.admin = AdminAuth::On(SecretSource::Environment(secret));
        let wrong = login(&broker, "wrong".into(), source).await;
        assert!(matches!(wrong, Err(AdminError::Credentials)), "{wrong:?}");
        assert!(login(&broker, "correct horse battery".into(), source).await.is_ok());
        Arc::get_mut(&mut broker).unwrap().admin_secrets.crowd();
        let late = login(&broker, "wrong".into(), source).await;
        assert!(matches!(late, Err(AdminError::Secret(SecretError::Busy))), "{late:?}");
        assert!(login(&broker, "correct horse battery".into(), source).await.is_ok());
    }
}
