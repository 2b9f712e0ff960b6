//! Rows of launch tokens.

use agentwrit_protocol::ScopeSet;
use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Error, Row};

use super::SqliteTx;
use crate::store::{Attested, LaunchToken, LaunchTokenHash, LaunchTokens, Operation, Result, StoreError};

/// Writes a value as JSON text.
pub(super) fn to_json<T: serde::Serialize>(what: &'static str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt {
        what,
        why: error.to_string(),
    })
}

/// Reads a value from JSON text.
pub(super) fn from_json<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt {
        what,
        why: error.to_string(),
    })
}

/// Reads the optional attestation column.
pub(super) fn attested(text: Option<String>) -> Result<Option<Attested>> {
    text.map(|text| from_json("attestation", &text)).transpose()
}

fn from_row(row: &SqliteRow) -> Result<LaunchToken> {
    let text = |column| row.try_get::<String, _>(column);
    let read = || -> std::result::Result<_, Error> {
        Ok((
            LaunchToken {
                hash: LaunchTokenHash::from_stored(text("hash")?),
                agent_name: text("agent_name")?,
                allowed_scope: ScopeSet::default(),
                max_ttl: row.try_get("max_ttl")?,
                single_use: row.try_get("single_use")?,
                expires_at: row.try_get("expires_at")?,
                consumed_at: row.try_get("consumed_at")?,
                created_by: text("created_by")?,
                correlation_id: text("correlation_id")?,
                attested: None,
            },
            text("allowed_scope")?,
            row.try_get::<Option<String>, _>("attested")?,
        ))
    };
    let (mut token, scope, bound) = read().during("read_launch_token")?;
    token.allowed_scope = from_json("allowed scope", &scope)?;
    token.attested = attested(bound)?;
    Ok(token)
}

#[async_trait]
impl LaunchTokens for SqliteTx<'_> {
    async fn insert_launch_token(&mut self, token: &LaunchToken) -> Result<()> {
        let bound = token.attested.as_ref();
        sqlx::query(
            "INSERT INTO launch_tokens (hash, agent_name, allowed_scope, max_ttl, single_use, expires_at, consumed_at, \
             created_by, correlation_id, policy_uid, pod_uid, attested) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(token.hash.as_str())
        .bind(&token.agent_name)
        .bind(to_json("allowed scope", &token.allowed_scope)?)
        .bind(token.max_ttl)
        .bind(token.single_use)
        .bind(token.expires_at)
        .bind(token.consumed_at)
        .bind(&token.created_by)
        .bind(&token.correlation_id)
        .bind(bound.map(|bound| &bound.policy_uid))
        .bind(bound.map(|bound| &bound.pod_uid))
        .bind(bound.map(|bound| to_json("attestation", bound)).transpose()?)
        .execute(&mut *self.connection)
        .await
        .during("insert_launch_token")?;
        Ok(())
    }

    async fn launch_token(&mut self, hash: &LaunchTokenHash) -> Result<Option<LaunchToken>> {
        sqlx::query("SELECT * FROM launch_tokens WHERE hash = ?")
            .bind(hash.as_str())
            .fetch_optional(&mut *self.connection)
            .await
            .during("read_launch_token")?
            .as_ref()
            .map(from_row)
            .transpose()
    }

    async fn consume_launch_token(&mut self, hash: &LaunchTokenHash) -> Result<bool> {
        let now = self.millis();
        let done = sqlx::query("UPDATE launch_tokens SET consumed_at = ? WHERE hash = ? AND consumed_at IS NULL")
            .bind(now)
            .bind(hash.as_str())
            .execute(&mut *self.connection)
            .await
            .during("consume_launch_token")?;
        Ok(done.rows_affected() == 1)
    }

    async fn unused_attested_launch_tokens(&mut self) -> Result<Vec<LaunchToken>> {
        let now = self.millis();
        let rows = sqlx::query(
            "SELECT * FROM launch_tokens WHERE pod_uid IS NOT NULL AND consumed_at IS NULL AND expires_at >= ?",
        )
        .bind(now)
        .fetch_all(&mut *self.connection)
        .await
        .during("read_launch_token")?;
        rows.iter().map(from_row).collect()
    }
}
