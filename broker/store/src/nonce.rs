//! Consumed nonces: a row is written on consumption only, and kept until the nonce expires.

use async_trait::async_trait;

use super::Result;

/// Repository of consumed nonces.
#[async_trait]
pub trait Nonces {
    /// Burns a nonce until its expiry (Unix milliseconds); false when it was burned before.
    async fn consume_nonce(&mut self, nonce: &str, until: i64) -> Result<bool>;
}
