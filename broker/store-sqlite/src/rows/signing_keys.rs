//! Rows of signing keys.

use agentwrit_protocol::UnixSeconds;
use agentwrit_protocol::signing_keys::{Retirement, SigningKey};
use agentwrit_store::session::KEPT;
use agentwrit_store::{Result, SigningKeyRecords};
use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use crate::columns;
use crate::error::Operation;
use crate::statements::{Statements, scalar};
use crate::tx::SqliteTx;

const READ: &str = "read_signing_keys";
const SAVE: &str = "save_signing_key";

fn from_row(row: &Row<'_>) -> Result<SigningKey> {
    let text = |column| row.get::<_, String>(column).during(READ);
    let seconds = |column| row.get(column).map(UnixSeconds::new).during(READ);
    let leaked = row.get("leaked").during(READ)?;
    Ok(SigningKey {
        kid: text("kid")?,
        x: text("x")?,
        published_at: seconds("published_at")?,
        signs_from: seconds("signs_from")?,
        retires_at: columns::any_seconds(row, "retires_at").during(READ)?,
        retirement: columns::any_seconds(row, "retired_at")
            .during(READ)?
            .map(|at| Retirement { at, leaked }),
    })
}

/// All of them, in the order in which they were published.
pub(crate) fn all(connection: &Connection) -> Result<Vec<SigningKey>> {
    connection.all(READ, "SELECT * FROM signing_keys ORDER BY sequence", [], from_row)
}

#[async_trait]
impl SigningKeyRecords for SqliteTx<'_> {
    async fn signing_keys(&mut self) -> Result<Vec<SigningKey>> {
        all(self.connection)
    }

    async fn insert_signing_key(&mut self, key: &SigningKey) -> Result<bool> {
        let inserted = self.connection.change(
            SAVE,
            "INSERT INTO signing_keys (kid, x, published_at, signs_from, retires_at, retired_at, leaked) \
             VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            params![
                key.kid,
                key.x,
                key.published_at.get(),
                key.signs_from.get(),
                key.retires_at.map(UnixSeconds::get),
                key.retirement.map(|retirement| retirement.at.get()),
                key.retirement.is_some_and(|retirement| retirement.leaked),
            ],
        )?;
        Ok(inserted == 1)
    }

    async fn update_signing_key(&mut self, key: &SigningKey) -> Result<()> {
        self.connection
            .change(
                SAVE,
                "UPDATE signing_keys SET signs_from = ?, retires_at = ?, retired_at = ?, leaked = ? WHERE kid = ?",
                params![
                    key.signs_from.get(),
                    key.retires_at.map(UnixSeconds::get),
                    key.retirement.map(|retirement| retirement.at.get()),
                    key.retirement.is_some_and(|retirement| retirement.leaked),
                    key.kid,
                ],
            )
            .map(drop)
    }

    async fn last_session_exp(&mut self) -> Result<UnixSeconds> {
        const OPERATION: &str = "read_last_exp";
        // One look into the index of `kept_until`, which is the last second plus KEPT, rounded up.
        let sql = "SELECT coalesce(MAX(kept_until), 0) FROM sessions";
        let latest: Option<i64> = self.connection.first(OPERATION, sql, [], scalar(OPERATION))?;
        Ok(UnixSeconds::new(latest.unwrap_or_default()) - KEPT)
    }
}
