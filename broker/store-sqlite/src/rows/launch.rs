//! Rows of launch tokens.

use agentwrit_protocol::{Ttl, UnixMillis};
use agentwrit_store::stored_json::{attested, from_json, to_json};
use agentwrit_store::{LaunchToken, LaunchTokenHash, LaunchTokens, Result, TxClock};
use async_trait::async_trait;
use rusqlite::{Row, params};

use crate::columns;
use crate::error::Operation;
use crate::statements::Statements;
use crate::tx::SqliteTx;

const READ: &str = "read_launch_token";

fn from_row(row: &Row<'_>) -> Result<LaunchToken> {
    let text = |column| row.get::<_, String>(column).during(READ);
    let allowed_scope = text("allowed_scope")?;
    let bound: Option<String> = row.get("attested").during(READ)?;
    Ok(LaunchToken {
        hash: LaunchTokenHash::from_stored(text("hash")?),
        agent_name: text("agent_name")?,
        allowed_scope: from_json("allowed scope", &allowed_scope)?,
        max_ttl: row.get("max_ttl").map(Ttl::seconds).during(READ)?,
        single_use: row.get("single_use").during(READ)?,
        expires_at: row.get("expires_at").map(UnixMillis::new).during(READ)?,
        consumed_at: columns::any_millis(row, "consumed_at").during(READ)?,
        created_by: text("created_by")?,
        correlation_id: text("correlation_id")?,
        attested: attested(bound)?,
    })
}

#[async_trait]
impl LaunchTokens for SqliteTx<'_> {
    async fn insert_launch_token(&mut self, token: &LaunchToken) -> Result<()> {
        let bound = token.attested.as_ref();
        self.connection.change(
            "insert_launch_token",
            "INSERT INTO launch_tokens (hash, agent_name, allowed_scope, max_ttl, single_use, expires_at, consumed_at, \
             created_by, correlation_id, policy_uid, pod_uid, attested) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                token.hash.as_str(),
                token.agent_name,
                to_json("allowed scope", &token.allowed_scope)?,
                token.max_ttl.get(),
                token.single_use,
                token.expires_at.get(),
                token.consumed_at.map(UnixMillis::get),
                token.created_by,
                token.correlation_id,
                bound.map(|bound| bound.policy_uid.as_str()),
                bound.map(|bound| bound.pod_uid.as_str()),
                bound.map(|bound| to_json("attestation", bound)).transpose()?,
            ],
        )?;
        Ok(())
    }

    async fn launch_token(&mut self, hash: &LaunchTokenHash) -> Result<Option<LaunchToken>> {
        let sql = "SELECT * FROM launch_tokens WHERE hash = ?";
        self.connection.first(READ, sql, [hash.as_str()], from_row)
    }

    async fn consume_launch_token(&mut self, hash: &LaunchTokenHash) -> Result<bool> {
        let sql = "UPDATE launch_tokens SET consumed_at = ? WHERE hash = ? AND consumed_at IS NULL";
        let values = params![self.now_millis().get(), hash.as_str()];
        Ok(self.connection.change("consume_launch_token", sql, values)? == 1)
    }

    async fn unused_attested_launch_tokens(&mut self) -> Result<Vec<LaunchToken>> {
        let sql = "SELECT * FROM launch_tokens WHERE pod_uid IS NOT NULL AND consumed_at IS NULL AND expires_at >= ?";
        self.connection.all(READ, sql, [self.now_millis().get()], from_row)
    }
}
