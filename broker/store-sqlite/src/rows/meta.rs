//! Rows of facts about the store, consumed nonces, and what is pruned.

use async_trait::async_trait;
use rusqlite::{Connection, params};

use crate::SqliteTx;
use crate::audit::short;
use crate::statements::{Statements, scalar};
use agentwrit_store::{Meta, MetaKey, Nonces, Policies, Result, StoreError};

const HOUR: i64 = 3600;
/// How long a row is kept beyond its need, seconds: a clock that jumped forward and back within a day makes nothing of it
/// forgotten.
const KEPT: i64 = 25 * HOUR;
/// Rows of one table that go in one transaction: everybody waits for that.
const PRUNED_AT_ONCE: i64 = 500;

/// Removes some of the rows whose moment is before the first value.
macro_rules! prune {
    ($table:literal, $key:literal, $moment:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE (",
            $key,
            ") IN (SELECT ",
            $key,
            " FROM ",
            $table,
            " WHERE ",
            $moment,
            " < ? LIMIT ?)"
        )
    };
}

/// The value of a key.
pub(crate) fn read(connection: &Connection, key: MetaKey) -> Result<Option<String>> {
    const OPERATION: &str = "read_meta";
    let sql = "SELECT value FROM meta WHERE key = ?";
    connection.first(OPERATION, sql, [key.as_str()], scalar(OPERATION))
}

/// Sets the value of a key.
pub(crate) fn write(connection: &Connection, key: MetaKey, value: &str) -> Result<()> {
    let sql = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    connection.change("write_meta", sql, [key.as_str(), value]).map(drop)
}

/// The high-water mark, Unix milliseconds; `None` in a store that has none yet.
pub(crate) fn high_water(connection: &Connection) -> Result<Option<i64>> {
    let Some(text) = read(connection, MetaKey::HighWater)? else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| StoreError::Corrupt {
        what: "high_water",
        why: format!("{text:?} is no number"),
    })
}

/// Keeps the high-water mark for the next start.
pub(crate) fn keep_high_water(connection: &Connection, mark: i64) -> Result<()> {
    write(connection, MetaKey::HighWater, &mark.to_string())
}

#[async_trait]
impl Meta for SqliteTx<'_> {
    async fn meta(&mut self, key: MetaKey) -> Result<Option<String>> {
        read(self.connection, key)
    }

    async fn set_meta(&mut self, key: MetaKey, value: &str) -> Result<()> {
        write(self.connection, key, value)
    }

    async fn prune(&mut self) -> Result<u64> {
        let millis = self.times.passed();
        let seconds = millis.div_euclid(1000);
        let statements = [
            // A launch token answers "expired" or "already consumed" for an hour, then "not found".
            (prune!("launch_tokens", "id", "expires_at"), millis - HOUR * 1000),
            (prune!("nonces", "until, nonce", "until"), millis - KEPT * 1000),
            (prune!("revocations", "level, target", "until"), millis - KEPT * 1000),
            // `kept_until` is so long after the end already.
            (prune!("sessions", "id", "kept_until"), seconds),
        ];
        let mut rows = 0_u64;
        for (statement, limit) in statements {
            let gone = self.connection.change("prune", statement, [limit, PRUNED_AT_ONCE])?;
            rows = rows.saturating_add(u64::try_from(gone).unwrap_or(u64::MAX));
        }
        self.purge_policy_rows().await?;
        Ok(rows)
    }

    async fn shorten_trail(&mut self, keep: i64) -> Result<u64> {
        let (looked_at, saved) = short::shorten(self.connection, keep)?;
        self.saved = self.saved.and(saved);
        Ok(looked_at)
    }
}

#[async_trait]
impl Nonces for SqliteTx<'_> {
    async fn consume_nonce(&mut self, nonce: &str, until: i64) -> Result<bool> {
        let sql = "INSERT INTO nonces (nonce, until) VALUES (?, ?) ON CONFLICT DO NOTHING";
        let rows = self.connection.change("consume_nonce", sql, params![nonce, until])?;
        Ok(rows == 1)
    }
}
