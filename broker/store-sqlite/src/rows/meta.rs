//! Rows of facts about the store, and consumed nonces.

use agentwrit_protocol::UnixMillis;
use agentwrit_store::{Meta, MetaKey, Nonces, Result};
use async_trait::async_trait;
use rusqlite::params;

use crate::facts;
use crate::statements::Statements;
use crate::tx::SqliteTx;

#[async_trait]
impl Meta for SqliteTx<'_> {
    async fn meta(&mut self, key: MetaKey) -> Result<Option<String>> {
        facts::read(self.connection, key)
    }

    async fn set_meta(&mut self, key: MetaKey, value: &str) -> Result<()> {
        facts::write(self.connection, key, value)
    }
}

#[async_trait]
impl Nonces for SqliteTx<'_> {
    async fn consume_nonce(&mut self, nonce: &str, until: UnixMillis) -> Result<bool> {
        let sql = "INSERT INTO nonces (nonce, until) VALUES (?, ?) ON CONFLICT DO NOTHING";
        let rows = self
            .connection
            .change("consume_nonce", sql, params![nonce, until.get()])?;
        Ok(rows == 1)
    }
}
