//! `AA_SEED_TOKENS`: a launch token and an admin token for a first try.

use agentwrit_protocol::Sensitive;

use crate::broker::Broker;
use crate::service::admin::{self, AdminError};
use crate::service::launch::{self, LaunchError};
use crate::service::session::token::{SignError, sign};

/// Why there are no seed tokens.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// No launch token.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// No admin token.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// No signature.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// The two tokens, launch token first; both live an hour.
///
/// # Errors
/// When the store, randomness or signing fails.
pub async fn seed(broker: &Broker) -> Result<(Sensitive, Sensitive), SeedError> {
    let launched = launch::create_seed(broker).await?;
    // Under the ceiling like every token: a revocation is kept for the longest life that the ceiling allows.
    let claims = admin::claims(broker, broker.config.clamp_ttl(3600), Vec::new()).map_err(AdminError::from)?;
    Ok((launched.token, sign(broker, &claims)?.token))
}
