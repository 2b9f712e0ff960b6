//! The schema and its migrations, counted in the table `schema_versions`.
//!
//! One replica migrates, in one transaction under an advisory lock; the others wait for it. A version notes the oldest
//! program that still works with it: so the old and the new one run side by side while a rolling upgrade goes on. A program
//! that is older is refused when it opens the store, and, when it runs already, with the next look at the chain's head.
//!
//! A step **expands** (it adds what the program before doesn't know, and keeps its `oldest_program`) or, in a later release,
//! **contracts** (it takes away what only older programs need, and names the first that doesn't). ADR 17 says what either
//! may do.

use agentwrit_store::{Result, StoreError};
use deadpool_postgres::ClientWrapper;
use tokio_postgres::types::ToSql;

use crate::error::Operation;

/// A step of the schema.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "testing"), allow(unreachable_pub, reason = "tests know further ones"))]
pub struct Migration {
    /// What is run.
    pub sql: &'static str,
    /// The oldest program, by the number of migrations that it has, that works with the schema of this step.
    pub oldest_program: i64,
}

/// In order; released ones are never changed.
const MIGRATIONS: &[Migration] = &[
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
/// What writes takes the head's lock first: so it is not met in the middle of anything. Whoever comes later waits behind this
/// one, so it gives up soon, and is tried again a second later.
const ALONE: &str = "SET LOCAL lock_timeout = '2s'; LOCK TABLE agentwrit.chain_head IN ACCESS EXCLUSIVE MODE";
/// For programs that run.
const TELL: &str = "UPDATE agentwrit.chain_head SET oldest_program = greatest(oldest_program, $1)";
const VERSIONS: &str = "CREATE SCHEMA IF NOT EXISTS agentwrit; \
     CREATE TABLE IF NOT EXISTS agentwrit.schema_versions (\
     version bigint PRIMARY KEY, oldest_program bigint NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())";
/// What is corrupt when this program is too old.
pub(crate) const SCHEMA_VERSION: &str = "schema version";
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

/// The steps of this program.
fn migrations() -> impl Iterator<Item = &'static Migration> {
    #[cfg(feature = "testing")]
    let more = crate::testing::further_migrations();
    #[cfg(not(feature = "testing"))]
    let more = &[];
    MIGRATIONS.iter().chain(more)
}

/// Their number, which is the version of this program.
pub(crate) fn program() -> i64 {
    migrations().fold(0, |number, _| number.saturating_add(1))
}

/// Fails when a database of this version says that this program is too old for it.
fn check(found: &Version, program: i64) -> Result<()> {
    if found.version <= program || found.oldest_program <= program {
        return Ok(());
    }
    Err(StoreError::Corrupt {
        what: SCHEMA_VERSION,
        why: format!(
            "{} is newer than this broker's {program}, and brokers older than {} don't work with it: run that one or a \
             newer one",
            found.version, found.oldest_program
        ),
    })
}

/// The same for one that runs, with what the row of the chain's head says: at least that version is there.
pub(crate) fn check_program(oldest_program: i64) -> Result<()> {
    let found = Version {
        version: oldest_program,
        oldest_program,
    };
    check(&found, program())
}

/// Brings the schema up to date.
pub(crate) async fn migrate(client: &ClientWrapper) -> Result<()> {
    // A role that may only write rows can start where nothing is to be migrated.
    let found = version(client).await?;
    check(&found, program())?;
    if found.version >= program() {
        return Ok(());
    }
    let migrated = migrate_alone(client).await;
    if migrated.is_err() {
        // Its own failure would hide the first one.
        drop(client.batch_execute("ROLLBACK").await);
    }
    migrated
}

async fn migrate_alone(client: &ClientWrapper) -> Result<()> {
    let run = async |sql: &str| client.batch_execute(sql).await.during(OPERATION);
    run("BEGIN").await?;
    run(LIMITS).await?;
    run(LOCK).await?;
    run(VERSIONS).await?;
    // Another replica may have been first.
    let found = version(client).await?;
    check(&found, program())?;
    if found.version > 0 {
        run(ALONE).await?;
    }
    for (migration, number) in migrations().zip(1_i64..).filter(|(_, number)| *number > found.version) {
        run(migration.sql).await?;
        let write =
            async |sql: &str, values: &[&(dyn ToSql + Sync)]| client.execute(sql, values).await.during(OPERATION);
        let sql = "INSERT INTO agentwrit.schema_versions (version, oldest_program) VALUES ($1, $2)";
        write(sql, &[&number, &migration.oldest_program]).await?;
        write(TELL, &[&migration.oldest_program]).await?;
    }
    run("COMMIT").await?;
    tracing::info!(target: "STORE", component = "InitDB", version = program(), "database schema is up to date");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_database_is_refused_with_both_versions() {
        let checked = |version, oldest_program| {
            let found = Version {
                version,
                oldest_program,
            };
            check(&found, 2)
        };
        for (version, oldest_program) in [(0, 0), (1, 2), (2, 2), (3, 2)] {
            assert!(checked(version, oldest_program).is_ok(), "{version}");
        }
        let error = checked(7, 5).unwrap_err().to_string();
        assert!(error.contains("7 is newer than this broker's 2"), "{error}");
        assert!(error.contains("older than 5"), "{error}");
    }
}
