//! Admin login.

use std::net::IpAddr;

use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::{EntropyError, Sensitive};
use async_trait::async_trait;

use super::token::{Issued, SignError, audience, sign};
use crate::broker::Broker;
use crate::config::{AdminAuth, known_to_everybody};
use crate::store::{Command, EventDraft, Result as StoreResult, StoreError, Tx};

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
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The token can't be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The comparison was cut short by the end of the process.
    #[error("the comparison did not finish")]
    Interrupted,
}

/// Trades the admin secret for a token.
///
/// # Errors
/// When the secret is wrong, or login is off.
pub async fn login(broker: &Broker, presented: Sensitive, source: IpAddr) -> Result<Issued, AdminError> {
    let AdminAuth::On(secrets) = &broker.config.admin else {
        return Err(AdminError::Off);
    };
    let (secrets, key) = (secrets.clone(), broker.compare_key);
    let weak = known_to_everybody(presented.expose());
    // Reads a file, and bcrypt takes a quarter of a second.
    let compared = tokio::task::spawn_blocking(move || {
        let (secret, problem) = secrets.current();
        (secret.matches(presented.expose(), &key), problem)
    });
    let (matches, problem) = compared.await.map_err(|_| AdminError::Interrupted)?;
    if let Some(problem) = problem {
        tracing::warn!(target: "CFG", component = "AdminSecret", problem = %problem, "keeping the last good admin secret");
    }
    if !matches {
        broker.metrics.admin_auth.with_label_values(&["failure"]).inc();
        let event = EventDraft::denied(EventType::AdminAuthFailed, "admin login refused: invalid credentials");
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
        jti: broker.random_hex::<16>()?,
        sid: String::new(),
        scope: ADMIN_SCOPES.map(str::to_owned).to_vec(),
        task_id: String::new(),
        orch_id: String::new(),
        delegation_chain: Vec::new(),
        chain_hash: String::new(),
        delegation_nodes: Vec::new(),
    })
}

struct Login(EventDraft);

#[async_trait]
impl Command for Login {
    type Outcome = ();

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<()> {
        tx.audit(self.0);
        Ok(())
    }
}
