//! Facts about the store: rows of the table `meta`.

use agentwrit_protocol::UnixMillis;
use agentwrit_store::{MetaKey, Result, StoreError};

use crate::link::Link;
use crate::value::values;

/// The value of a key.
pub(crate) async fn read(link: &mut Link<'_>, key: MetaKey) -> Result<Option<String>> {
    let sql = "SELECT value FROM meta WHERE key = $1";
    link.first("read_meta", sql, values![key.as_str()], |row| row.text("value"))
        .await
}

/// Sets the value of a key.
pub(crate) async fn write(link: &mut Link<'_>, key: MetaKey, value: &str) -> Result<()> {
    let sql = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    link.send("write_meta", sql, values![key.as_str(), value]).await
}

/// The high-water mark; `None` in a store that has none yet.
pub(crate) async fn high_water(link: &mut Link<'_>) -> Result<Option<UnixMillis>> {
    let Some(text) = read(link, MetaKey::HighWater).await? else {
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

/// Keeps the high-water mark for the next start, and for other replicas: it never goes back.
pub(crate) async fn keep_high_water(link: &mut Link<'_>, mark: UnixMillis) -> Result<()> {
    let sql = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = \
               greatest(meta.value::bigint, excluded.value::bigint)::text";
    let values = values![MetaKey::HighWater.as_str(), mark.to_string()];
    link.send("write_meta", sql, values).await
}
