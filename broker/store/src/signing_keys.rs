//! Signing keys as stored: which there are and ever were, and since when. Their private halves are elsewhere.

use agentwrit_protocol::UnixSeconds;
use agentwrit_protocol::signing_keys::SigningKey;
use async_trait::async_trait;

use super::Result;

/// Repository of signing keys. At most [`agentwrit_protocol::signing_keys::MOST_KEYS`] are stored; none is removed, so
/// that old statements of the trail can be checked.
#[async_trait]
pub trait SigningKeyRecords {
    /// All of them, retired ones included, in the order in which they were published.
    async fn signing_keys(&mut self) -> Result<Vec<SigningKey>>;
    /// Stores a new one; false when it is there.
    async fn insert_signing_key(&mut self, key: &SigningKey) -> Result<bool>;
    /// Writes when it signs, when it is to be retired, and its retirement.
    async fn update_signing_key(&mut self, key: &SigningKey) -> Result<()>;
    /// The last second of the last token of any session, or up to an hour later; of tokens without a session nothing is
    /// known.
    async fn last_session_exp(&mut self) -> Result<UnixSeconds>;
}
