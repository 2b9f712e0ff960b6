//! Consumed nonces: a row is written on consumption only, and kept until the nonce expires.

use agentwrit_protocol::UnixMillis;
use async_trait::async_trait;

use super::Result;

/// Repository of consumed nonces.
#[async_trait]
pub trait Nonces {
    /// Burns a nonce until its expiry; false when it was burned before.
    async fn consume_nonce(&mut self, nonce: &str, until: UnixMillis) -> Result<bool>;
}
