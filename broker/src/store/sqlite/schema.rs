//! The schema and its migrations, counted in `PRAGMA user_version`.

use sqlx::{Executor, SqliteConnection};

use crate::store::{Operation, Result, StoreError};

/// In order; released ones are never changed.
const MIGRATIONS: &[&str] = &[include_str!("0001_core.sql"), include_str!("0002_k8s.sql")];

/// Brings the schema up to date.
pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<()> {
    let version: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut *connection)
        .await
        .during("read_schema_version")?;
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    if done > MIGRATIONS.len() {
        return Err(StoreError::Corrupt {
            what: "schema version",
            why: format!("{version} is newer than this broker's {}", MIGRATIONS.len()),
        });
    }
    for (index, script) in MIGRATIONS.iter().enumerate().skip(done) {
        let script = format!(
            "BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {};\nCOMMIT;",
            index + 1
        );
        connection
            .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(script)))
            .await
            .during("create_table")?;
    }
    Ok(())
}
