//! Rows of launch tokens.

use agentwrit_protocol::UnixMillis;
use agentwrit_store::stored_json::{attested, from_json, to_json};
use agentwrit_store::{LaunchToken, LaunchTokenHash, LaunchTokens, Result, TxClock};
use async_trait::async_trait;

use crate::link::Link;
use crate::row::Row;
use crate::tx::PgTx;
use crate::value::{Value, values};

const READ: &str = "read_launch_token";

fn from_row(row: &Row<'_>) -> Result<LaunchToken> {
    Ok(LaunchToken {
        hash: LaunchTokenHash::from_stored(row.text("hash")?),
        agent_name: row.text("agent_name")?,
        allowed_scope: from_json("allowed scope", &row.text("allowed_scope")?)?,
        max_ttl: row.life("max_ttl")?,
        single_use: row.flag("single_use")?,
        expires_at: row.millis("expires_at")?,
        consumed_at: row.any_millis("consumed_at")?,
        created_by: row.text("created_by")?,
        correlation_id: row.text("correlation_id")?,
        attested: attested(row.any_text("attested")?)?,
    })
}

/// Those with these hashes.
pub(crate) async fn read_all(link: &mut Link<'_>, hashes: Value) -> Result<Vec<LaunchToken>> {
    let sql = select!(launch_tokens, "WHERE hash = ANY($1)");
    link.all(READ, sql, vec![hashes], from_row).await
}

#[async_trait]
impl LaunchTokens for PgTx<'_, '_> {
    async fn insert_launch_token(&mut self, token: &LaunchToken) -> Result<()> {
        let bound = token.attested.as_ref();
        let sql = "INSERT INTO launch_tokens (hash, agent_name, allowed_scope, max_ttl, single_use, expires_at, \
                   consumed_at, created_by, correlation_id, policy_uid, pod_uid, attested) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
        let values = values![
            token.hash.as_str(),
            &token.agent_name,
            to_json("allowed scope", &token.allowed_scope)?,
            token.max_ttl.get(),
            token.single_use,
            token.expires_at.get(),
            token.consumed_at.map(UnixMillis::get),
            &token.created_by,
            &token.correlation_id,
            bound.map(|bound| bound.policy_uid.as_str()),
            bound.map(|bound| bound.pod_uid.as_str()),
            bound.map(|bound| to_json("attestation", bound)).transpose()?,
        ];
        self.link.send("insert_launch_token", sql, values).await
    }

    async fn launch_token(&mut self, hash: &LaunchTokenHash) -> Result<Option<LaunchToken>> {
        if let Some(known) = self.ahead.as_ref().and_then(|ahead| ahead.launch_token(hash)) {
            return Ok(Some(known));
        }
        let sql = select!(launch_tokens, "WHERE hash = $1");
        self.link.first(READ, sql, values![hash.as_str()], from_row).await
    }

    async fn consume_launch_token(&mut self, hash: &LaunchTokenHash) -> Result<bool> {
        if let Some(ahead) = &mut self.ahead {
            ahead.forget_launch_token(hash);
        }
        let sql = "UPDATE launch_tokens SET consumed_at = $1 WHERE hash = $2 AND consumed_at IS NULL";
        let values = values![self.now_millis().get(), hash.as_str()];
        self.changed("consume_launch_token", sql, values).await
    }

    async fn unused_attested_launch_tokens(&mut self) -> Result<Vec<LaunchToken>> {
        let sql = select!(
            launch_tokens,
            "WHERE pod_uid IS NOT NULL AND consumed_at IS NULL AND expires_at >= $1"
        );
        let values = values![self.now_millis().get()];
        self.link.all(READ, sql, values, from_row).await
    }
}
