//! `AA_SEED_TOKENS`: a launch token and an admin token for a first try.

use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::{Sensitive, Ttl};

use crate::broker::Broker;
use crate::service::admin;
use crate::service::error::Internal;
use crate::service::launch::LaunchError;

/// Why there are no seed tokens.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SeedError(#[from] LaunchError);

impl From<Internal> for SeedError {
    fn from(error: Internal) -> Self {
        Self(error.into())
    }
}

/// The two tokens, launch token first; both live an hour.
///
/// # Errors
/// When the store, randomness or signing fails.
pub async fn seed(broker: &Broker) -> Result<(Sensitive, Sensitive), SeedError> {
    let launched = broker.launch_tokens().create_seed().await?;
    // Under the ceiling like every token: a revocation is kept for the longest life that the ceiling allows.
    let ttl = broker.config.clamp_ttl(Ttl::seconds(3600));
    let claims = admin::claims(&broker.tokens, &broker.ids, broker.clock.as_ref(), ttl).map_err(Internal::from)?;
    // Good for every broker of these keys, whatever its audience.
    let claims = Claims {
        aud: Vec::new(),
        ..claims
    };
    let signed = broker.tokens.sign(&claims).map_err(Internal::from)?;
    Ok((launched.token, signed.token))
}
