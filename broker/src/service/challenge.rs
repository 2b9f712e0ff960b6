//! Challenges: the nonces that a registration signs.

use agentwrit_protocol::EntropyError;
use agentwrit_protocol::wire::ChallengeResponse;
use agentwrit_tokens::nonce;

use crate::broker::Broker;

/// Why there is no challenge.
#[derive(Debug, thiserror::Error)]
pub enum ChallengeError {
    /// The store is not open, and the key of nonces comes with it.
    #[error("the store is not open")]
    NoStore,
    /// There is no randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// Makes a nonce.
///
/// # Errors
/// When the store is not open, or there is no randomness.
pub fn challenge(broker: &Broker) -> Result<ChallengeResponse, ChallengeError> {
    if !broker.store.connected() {
        return Err(ChallengeError::NoStore);
    }
    let now = broker.judging.times().judged;
    Ok(ChallengeResponse {
        nonce: nonce::issue(&broker.nonce_key(), broker.entropy.as_ref(), now)?,
        expires_in: nonce::NONCE_SECONDS,
    })
}
