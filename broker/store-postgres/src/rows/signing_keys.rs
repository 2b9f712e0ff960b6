//! Rows of signing keys.

use agentwrit_protocol::UnixSeconds;
use agentwrit_protocol::signing_keys::{Retirement, SigningKey};
use agentwrit_store::session::KEPT;
use agentwrit_store::{Result, SigningKeyRecords};
use async_trait::async_trait;

use crate::link::Link;
use crate::row::Row;
use crate::tx::PgTx;
use crate::value::values;

const SAVE: &str = "save_signing_key";

fn from_row(row: &Row<'_>) -> Result<SigningKey> {
    let leaked = row.flag("leaked")?;
    Ok(SigningKey {
        kid: row.text("kid")?,
        x: row.text("x")?,
        published_at: row.seconds("published_at")?,
        signs_from: row.seconds("signs_from")?,
        retires_at: row.any_seconds("retires_at")?,
        retirement: row.any_seconds("retired_at")?.map(|at| Retirement { at, leaked }),
    })
}

/// All of them, in the order in which they were published.
pub(crate) async fn all(link: &mut Link<'_>) -> Result<Vec<SigningKey>> {
    let sql = select!(signing_keys, "ORDER BY sequence");
    link.all("read_signing_keys", sql, values![], from_row).await
}

#[async_trait]
impl SigningKeyRecords for PgTx<'_, '_> {
    async fn signing_keys(&mut self) -> Result<Vec<SigningKey>> {
        all(self.link).await
    }

    async fn insert_signing_key(&mut self, key: &SigningKey) -> Result<bool> {
        let sql = "INSERT INTO signing_keys (kid, x, published_at, signs_from, retires_at, retired_at, leaked) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
        let values = values![
            &key.kid,
            &key.x,
            key.published_at.get(),
            key.signs_from.get(),
            key.retires_at.map(UnixSeconds::get),
            key.retirement.map(|retirement| retirement.at.get()),
            key.retirement.is_some_and(|retirement| retirement.leaked),
        ];
        self.changed(SAVE, sql, values).await
    }

    async fn update_signing_key(&mut self, key: &SigningKey) -> Result<()> {
        let sql =
            "UPDATE signing_keys SET signs_from = $1, retires_at = $2, retired_at = $3, leaked = $4 WHERE kid = $5";
        let values = values![
            key.signs_from.get(),
            key.retires_at.map(UnixSeconds::get),
            key.retirement.map(|retirement| retirement.at.get()),
            key.retirement.is_some_and(|retirement| retirement.leaked),
            &key.kid,
        ];
        self.link.send(SAVE, sql, values).await
    }

    async fn last_session_exp(&mut self) -> Result<UnixSeconds> {
        // One look into the index of `kept_until`, which is the last second plus KEPT, rounded up.
        let sql = "SELECT coalesce(max(kept_until), 0) AS latest FROM sessions";
        let latest = self
            .link
            .first("read_last_exp", sql, values![], |row| row.seconds("latest"));
        Ok(latest.await?.unwrap_or_default() - KEPT)
    }
}
