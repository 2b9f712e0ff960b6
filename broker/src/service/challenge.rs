//! Challenges: the nonces that a registration signs.

use agentwrit_protocol::JudgingClock;
use agentwrit_protocol::wire::ChallengeResponse;
use agentwrit_store::{Store, StoreError};
use agentwrit_tokens::nonce::{NONCE_TTL, NonceError, NonceIssuer};

use super::error::Internal;

/// Makes a nonce. The key of nonces comes with the store, so it must be open.
pub(crate) fn challenge(
    store: &Store,
    nonces: &NonceIssuer,
    judging: &JudgingClock,
) -> Result<ChallengeResponse, Internal> {
    if !store.connected() {
        return Err(StoreError::NotOpen.into());
    }
    Ok(ChallengeResponse {
        nonce: nonces
            .issue(&store.epoch(), judging.times().judged)
            .map_err(|error| match error {
                NonceError::Entropy(error) => Internal::from(error),
                NonceError::Key(_) => StoreError::SigningKey.into(),
            })?,
        expires_in: NONCE_TTL,
    })
}
