//! The schema and its migrations, counted in the table `schema_versions`.
//!
//! One replica migrates, in one transaction under an advisory lock; the others wait for it. A version notes the oldest
//! program that still works with it: so the old and the new one run side by side while a rolling upgrade goes on.

use agentwrit_store::{Result, StoreError};
use deadpool_postgres::ClientWrapper;

use crate::error::Operation;

/// A step of the schema.
pub(crate) struct Migration {
    pub(crate) sql: &'static str,
    /// The oldest program, by the number of migrations that it has, that works with the schema of this step.
    pub(crate) oldest_program: i64,
}

/// In order; released ones are never changed.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        sql: include_str!("schema/0001_core.sql"),
        oldest_program: 2,
    },
    Migration {
        sql: include_str!("schema/0002_trail.sql"),
        oldest_program: 2,
    },
];
/// "awrit", for whoever looks into `pg_locks`.
const LOCK: &str = "SELECT pg_advisory_xact_lock(418563221876)";
/// The others wait so long for the one that migrates.
const LIMITS: &str = "SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = '10min'";
const VERSIONS: &str = "CREATE SCHEMA IF NOT EXISTS agentwrit; \
     CREATE TABLE IF NOT EXISTS agentwrit.schema_versions (\
     version bigint PRIMARY KEY, oldest_program bigint NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())";
const OPERATION: &str = "migrate";
const READ: &str = "read_schema_version";

/// What a database is at.
struct Version {
    version: i64,
    oldest_program: i64,
}

async fn version(client: &ClientWrapper) -> Result<Version> {
    let there = client
        .query_one("SELECT to_regclass('agentwrit.schema_versions') IS NOT NULL", &[])
        .await
        .during(READ)?;
    if !there.try_get::<_, bool>(0).during(READ)? {
        return Ok(Version {
            version: 0,
            oldest_program: 0,
        });
    }
    let sql = "SELECT coalesce(max(version), 0), coalesce(max(oldest_program), 0) FROM agentwrit.schema_versions";
    let row = client.query_one(sql, &[]).await.during(READ)?;
    Ok(Version {
        version: row.try_get(0).during(READ)?,
        oldest_program: row.try_get(1).during(READ)?,
    })
}

/// How many of the steps the database has; fails when it is newer than this program and the program can't work with it.
fn done(found: &Version, program: usize) -> Result<usize> {
    let known = i64::try_from(program).unwrap_or(i64::MAX);
    if found.version > known && found.oldest_program > known {
        return Err(StoreError::Corrupt {
            what: "schema version",
            why: format!(
                "{} is newer than this broker's {known}, and brokers older than {} don't work with it: run that one or a \
                 newer one",
                found.version, found.oldest_program
            ),
        });
    }
    Ok(usize::try_from(found.version).unwrap_or(usize::MAX))
}

/// Brings the schema up to date.
pub(crate) async fn migrate(client: &ClientWrapper, migrations: &[Migration]) -> Result<()> {
    // A role that may only write rows can start where nothing is to be migrated.
    if done(&version(client).await?, migrations.len())? >= migrations.len() {
        return Ok(());
    }
    let migrated = migrate_alone(client, migrations).await;
    if migrated.is_err() {
        // Its own failure would hide the first one.
        drop(client.batch_execute("ROLLBACK").await);
    }
    migrated
}

async fn migrate_alone(client: &ClientWrapper, migrations: &[Migration]) -> Result<()> {
    let run = async |sql: &str| client.batch_execute(sql).await.during(OPERATION);
    run("BEGIN").await?;
    run(LIMITS).await?;
    run(LOCK).await?;
    run(VERSIONS).await?;
    // Another replica may have been first.
    let done = done(&version(client).await?, migrations.len())?;
    for (index, migration) in migrations.iter().enumerate().skip(done) {
        run(migration.sql).await?;
        let number = i64::try_from(index).unwrap_or(i64::MAX).saturating_add(1);
        let sql = "INSERT INTO agentwrit.schema_versions (version, oldest_program) VALUES ($1, $2)";
        client
            .execute(sql, &[&number, &migration.oldest_program])
            .await
            .during(OPERATION)?;
    }
    run("COMMIT").await?;
    tracing::info!(target: "STORE", component = "InitDB", version = migrations.len(), "database schema is up to date");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_database_is_refused_with_both_versions() {
        let found = |version, oldest_program| Version {
            version,
            oldest_program,
        };
        assert_eq!(done(&found(0, 0), 2).unwrap(), 0);
        assert_eq!(done(&found(2, 2), 2).unwrap(), 2);
        assert_eq!(done(&found(3, 2), 2).unwrap(), 3, "one that was only expanded");
        let error = done(&found(7, 5), 2).unwrap_err().to_string();
        assert!(error.contains("7 is newer than this broker's 2"), "{error}");
        assert!(error.contains("older than 5"), "{error}");
    }
}
