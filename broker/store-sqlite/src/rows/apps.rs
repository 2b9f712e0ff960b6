//! Rows of apps.

use agentwrit_protocol::{Sensitive, Ttl, UnixSeconds};
use agentwrit_store::stored_json::{from_json, to_json};
use agentwrit_store::{AppRecord, Apps, Result};
use async_trait::async_trait;
use rusqlite::{Row, params};

use crate::columns;
use crate::error::Operation;
use crate::statements::{Statements, scalar};
use crate::tx::SqliteTx;

const READ: &str = "read_app";

fn from_row(row: &Row<'_>) -> Result<AppRecord> {
    let text = |column| row.get::<_, String>(column).during(READ);
    let seconds = |column| row.get(column).map(UnixSeconds::new).during(READ);
    Ok(AppRecord {
        app_id: text("app_id")?,
        name: text("name")?,
        client_id: text("client_id")?,
        secret_hash: Sensitive::from(text("secret_hash")?),
        scopes: from_json("app's scopes", &text("scopes")?)?,
        token_ttl: row.get("token_ttl").map(Ttl::seconds).during(READ)?,
        created_at: seconds("created_at")?,
        updated_at: seconds("updated_at")?,
        deregistered_at: columns::any_seconds(row, "deregistered_at").during(READ)?,
    })
}

#[async_trait]
impl Apps for SqliteTx<'_> {
    async fn insert_app(&mut self, app: &AppRecord) -> Result<bool> {
        let inserted = self.connection.change(
            "save_app",
            "INSERT INTO apps (app_id, name, client_id, secret_hash, scopes, token_ttl, created_at, updated_at, \
             deregistered_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            params![
                app.app_id,
                app.name,
                app.client_id,
                app.secret_hash.expose(),
                to_json("app's scopes", &app.scopes)?,
                app.token_ttl.get(),
                app.created_at.get(),
                app.updated_at.get(),
                app.deregistered_at.map(UnixSeconds::get),
            ],
        )?;
        Ok(inserted == 1)
    }

    async fn app(&mut self, app_id: &str) -> Result<Option<AppRecord>> {
        self.connection
            .first(READ, "SELECT * FROM apps WHERE app_id = ?", [app_id], from_row)
    }

    async fn app_by_client_id(&mut self, client_id: &str) -> Result<Option<AppRecord>> {
        self.connection
            .first(READ, "SELECT * FROM apps WHERE client_id = ?", [client_id], from_row)
    }

    async fn app_name_is_taken(&mut self, name: &str) -> Result<bool> {
        let sql = "SELECT 1 FROM apps WHERE name = ? AND deregistered_at IS NULL";
        let found: Option<i64> = self.connection.first(READ, sql, [name], scalar(READ))?;
        Ok(found.is_some())
    }

    async fn apps(&mut self) -> Result<Vec<AppRecord>> {
        let sql = "SELECT * FROM apps ORDER BY sequence DESC";
        self.connection.all(READ, sql, [], from_row)
    }

    async fn update_app(&mut self, app: &AppRecord) -> Result<()> {
        self.connection.change(
            "save_app",
            "UPDATE apps SET scopes = ?, token_ttl = ?, updated_at = ?, deregistered_at = ? WHERE app_id = ?",
            params![
                to_json("app's scopes", &app.scopes)?,
                app.token_ttl.get(),
                app.updated_at.get(),
                app.deregistered_at.map(UnixSeconds::get),
                app.app_id,
            ],
        )?;
        Ok(())
    }
}
