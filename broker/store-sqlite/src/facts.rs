//! Facts about the store: rows of the table `meta`.

use agentwrit_protocol::UnixMillis;
use agentwrit_store::{MetaKey, Result, StoreError};
use rusqlite::Connection;

use super::statements::{Statements, scalar};

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

/// The high-water mark; `None` in a store that has none yet.
pub(crate) fn high_water(connection: &Connection) -> Result<Option<UnixMillis>> {
    let Some(text) = read(connection, MetaKey::HighWater)? else {
        return Ok(None);
    };
    text.parse()
        .map(UnixMillis::new)
        .map(Some)
        .map_err(|_| StoreError::Corrupt {
            what: "high_water",
            why: format!("{text:?} is no number"),
        })
}

/// Keeps the high-water mark for the next start.
pub(crate) fn keep_high_water(connection: &Connection, mark: UnixMillis) -> Result<()> {
    write(connection, MetaKey::HighWater, &mark.to_string())
}
