//! Rows of apps.

use agentwrit_protocol::{Sensitive, UnixSeconds};
use agentwrit_store::stored_json::{from_json, to_json};
use agentwrit_store::{AppRecord, Apps, Result};
use async_trait::async_trait;

use crate::row::Row;
use crate::tx::PgTx;
use crate::value::values;

const READ: &str = "read_app";

fn from_row(row: &Row<'_>) -> Result<AppRecord> {
    Ok(AppRecord {
        app_id: row.text("app_id")?,
        name: row.text("name")?,
        client_id: row.text("client_id")?,
        secret_hash: Sensitive::from(row.text("secret_hash")?),
        scopes: from_json("app's scopes", &row.text("scopes")?)?,
        token_ttl: row.life("token_ttl")?,
        created_at: row.seconds("created_at")?,
        updated_at: row.seconds("updated_at")?,
        deregistered_at: row.any_seconds("deregistered_at")?,
    })
}

#[async_trait]
impl Apps for PgTx<'_, '_> {
    async fn insert_app(&mut self, app: &AppRecord) -> Result<bool> {
        let sql = "INSERT INTO apps (app_id, name, client_id, secret_hash, scopes, token_ttl, created_at, updated_at, \
                   deregistered_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING";
        let values = values![
            &app.app_id,
            &app.name,
            &app.client_id,
            app.secret_hash.expose(),
            to_json("app's scopes", &app.scopes)?,
            app.token_ttl.get(),
            app.created_at.get(),
            app.updated_at.get(),
            app.deregistered_at.map(UnixSeconds::get),
        ];
        self.changed("save_app", sql, values).await
    }

    async fn app(&mut self, app_id: &str) -> Result<Option<AppRecord>> {
        let sql = select!(apps, "WHERE app_id = $1");
        self.link.first(READ, sql, values![app_id], from_row).await
    }

    async fn app_by_client_id(&mut self, client_id: &str) -> Result<Option<AppRecord>> {
        let sql = select!(apps, "WHERE client_id = $1");
        self.link.first(READ, sql, values![client_id], from_row).await
    }

    async fn app_name_is_taken(&mut self, name: &str) -> Result<bool> {
        let sql = "SELECT true FROM apps WHERE name = $1 AND deregistered_at IS NULL";
        self.any(READ, sql, values![name]).await
    }

    async fn apps(&mut self) -> Result<Vec<AppRecord>> {
        let sql = select!(apps, "ORDER BY sequence DESC");
        self.link.all(READ, sql, values![], from_row).await
    }

    async fn update_app(&mut self, app: &AppRecord) -> Result<()> {
        let sql =
            "UPDATE apps SET scopes = $1, token_ttl = $2, updated_at = $3, deregistered_at = $4 WHERE app_id = $5";
        let values = values![
            to_json("app's scopes", &app.scopes)?,
            app.token_ttl.get(),
            app.updated_at.get(),
            app.deregistered_at.map(UnixSeconds::get),
            &app.app_id,
        ];
        self.link.send("save_app", sql, values).await
    }
}
