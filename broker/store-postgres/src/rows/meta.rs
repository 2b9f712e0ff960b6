//! Rows of facts about the store, and consumed nonces.

use agentwrit_protocol::UnixMillis;
use agentwrit_store::{Meta, MetaKey, Nonces, Result};
use async_trait::async_trait;

use crate::facts;
use crate::tx::PgTx;
use crate::value::values;

#[async_trait]
impl Meta for PgTx<'_, '_> {
    async fn meta(&mut self, key: MetaKey) -> Result<Option<String>> {
        facts::read(self.link, key).await
    }

    async fn set_meta(&mut self, key: MetaKey, value: &str) -> Result<()> {
        facts::write(self.link, key, value).await
    }
}

#[async_trait]
impl Nonces for PgTx<'_, '_> {
    async fn consume_nonce(&mut self, nonce: &str, until: UnixMillis) -> Result<bool> {
        if self
            .ahead
            .as_mut()
            .is_some_and(|ahead| ahead.forget_nonce(nonce, until))
        {
            // Known to be so since the lock was taken: the key would fail the batch.
            let sql = "INSERT INTO nonces (nonce, until) VALUES ($1, $2)";
            self.link
                .send("consume_nonce", sql, values![nonce, until.get()])
                .await?;
            return Ok(true);
        }
        let sql = "INSERT INTO nonces (nonce, until) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        self.changed("consume_nonce", sql, values![nonce, until.get()]).await
    }
}
