//! The schema and its migrations, counted in `PRAGMA user_version`.

use rusqlite::Connection;

use super::statements::{Statements, scalar};
use crate::store::{Operation, Result, StoreError};

/// In order; released ones are never changed.
const MIGRATIONS: &[&str] = &[
    include_str!("0001_core.sql"),
    include_str!("0002_k8s.sql"),
    include_str!("0003_delegation.sql"),
    include_str!("0004_apps.sql"),
];
const READ_VERSION: &str = "read_schema_version";

/// Brings the schema up to date.
pub(super) fn migrate(connection: &Connection) -> Result<()> {
    let version: i64 = connection
        .first(READ_VERSION, "PRAGMA user_version", [], scalar(READ_VERSION))?
        .unwrap_or_default();
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
        connection.execute_batch(&script).during("create_table")?;
    }
    Ok(())
}
