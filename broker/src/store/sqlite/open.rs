//! Opening: lock file, connection, schema, identity of the store, chain, revocation view.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agentwrit_protocol::{Clock, Entropy};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection, SqlitePool};

use super::SqliteTx;
use super::audit::{ChainHead, verify_tail};
use super::committer::Shared;
use super::schema::migrate;
use crate::store::{EndReason, Meta, MetaKey, Operation, Result, Revocation, RevocationLevel, StoreError, StoreKind};
use crate::view::ViewChange;

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const READERS: u32 = 4;
const OWNER_ONLY: u32 = 0o600;

/// An open store.
pub(crate) struct Opened {
    pub(crate) connection: SqliteConnection,
    pub(crate) head: ChainHead,
    _lock: Option<StoreLock>,
}

/// The lock on `<path>.lock`, held while the value lives.
struct StoreLock {
    _file: File,
}

/// Takes the lock file of a store, so that no two brokers write one chain.
fn lock(path: &Path) -> Result<StoreLock> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let path = name.to_string_lossy().into_owned();
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(OWNER_ONLY)
        .open(&name)
        .map_err(|source| StoreError::File {
            path: path.clone(),
            source,
        })?;
    match file.try_lock() {
        Ok(()) => Ok(StoreLock { _file: file }),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::Locked { path }),
        Err(std::fs::TryLockError::Error(source)) => Err(StoreError::File { path, source }),
    }
}

/// Makes the file, readable by its owner only; SQLite gives WAL and index the same mode.
fn create(path: &Path) -> Result<()> {
    let made = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(OWNER_ONLY)
        .open(path);
    let file = |source| StoreError::File {
        path: path.display().to_string(),
        source,
    };
    made.map(drop).map_err(file)
}

fn options(kind: &StoreKind) -> Result<SqliteConnectOptions> {
    let options = match kind {
        StoreKind::File(path) => SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full),
        StoreKind::Memory => "sqlite::memory:".parse().during("open")?,
    };
    Ok(options.busy_timeout(BUSY_TIMEOUT).disable_statement_logging())
}

/// Read-only connections beside the committer's; none for a store in memory.
pub(crate) fn reader(kind: &StoreKind) -> Result<Option<SqlitePool>> {
    match kind {
        StoreKind::Memory => Ok(None),
        StoreKind::File(_) => Ok(Some(
            SqlitePoolOptions::new()
                .max_connections(READERS)
                .acquire_timeout(BUSY_TIMEOUT)
                .connect_lazy_with(options(kind)?.create_if_missing(false).read_only(true)),
        )),
    }
}

/// Opens the store and loads the view from it.
pub(crate) async fn open(kind: &StoreKind, shared: &Shared) -> Result<Opened> {
    let lock = match kind {
        StoreKind::File(path) => {
            let lock = lock(path)?;
            create(path)?;
            Some(lock)
        }
        StoreKind::Memory => None,
    };
    let mut connection = SqliteConnection::connect_with(&options(kind)?).await.during("open")?;
    migrate(&mut connection).await?;
    let (epoch, min_iat) = identify(&mut connection, shared).await?;
    probe(&mut connection).await?;
    let head = verify_tail(&mut connection).await?;
    let changes = load_changes(&mut connection, shared.clock.unix_seconds()).await?;
    shared.view.load(min_iat, changes);
    shared.status.opened(epoch, head.sequence);
    Ok(Opened {
        connection,
        head,
        _lock: lock,
    })
}

/// Whether the store takes a write.
pub(crate) async fn probe(connection: &mut SqliteConnection) -> Result<()> {
    let mut transaction = connection.begin().await.during("probe")?;
    sqlx::query("UPDATE meta SET value = value WHERE key = ?")
        .bind(MetaKey::Epoch.as_str())
        .execute(&mut *transaction)
        .await
        .during("probe")?;
    transaction.commit().await.during("probe")
}

/// Reads epoch and `min_iat`, or makes them for a new store; notes the longest TTL ever in force.
async fn identify(connection: &mut SqliteConnection, shared: &Shared) -> Result<(String, i64)> {
    let mut transaction = connection.begin().await.during("open")?;
    let mut tx = SqliteTx::new(&mut transaction, shared.clock.now(), ChainHead::default());
    let known = tx.meta(MetaKey::Epoch).await?.zip(tx.meta(MetaKey::MinIat).await?);
    let identity = if let Some((epoch, min_iat)) = known {
        let min_iat = min_iat.parse().map_err(|_| StoreError::Corrupt {
            what: "min_iat",
            why: format!("{min_iat:?} is no number"),
        })?;
        (epoch, min_iat)
    } else {
        let mut bytes = [0_u8; 16];
        shared.entropy.fill(&mut bytes)?;
        let epoch = hex::encode(bytes);
        // A new store beside an existing key has forgotten what was revoked: older tokens are refused. Tokens date
        // themselves in whole seconds, so this one has to be over before the store issues any.
        if !shared.first.swap(false, Ordering::SeqCst) {
            let into = shared.clock.unix_millis().rem_euclid(1000).unsigned_abs();
            tokio::time::sleep(Duration::from_millis(1000_u64.saturating_sub(into))).await;
        }
        let min_iat = shared.clock.unix_seconds();
        tx.set_meta(MetaKey::Epoch, &epoch).await?;
        tx.set_meta(MetaKey::MinIat, &min_iat.to_string()).await?;
        (epoch, min_iat)
    };
    let known = tx
        .meta(MetaKey::LongestTtl)
        .await?
        .and_then(|text| text.parse::<i64>().ok());
    let longest = match known {
        Some(known) if known == 0 || shared.max_ttl == 0 => 0,
        Some(known) => known.max(shared.max_ttl),
        None => shared.max_ttl,
    };
    if known != Some(longest) {
        tx.set_meta(MetaKey::LongestTtl, &longest.to_string()).await?;
    }
    transaction.commit().await.during("open")?;
    Ok(identity)
}

/// Everything that the revocation view must know at start.
async fn load_changes(connection: &mut SqliteConnection, now_seconds: i64) -> Result<Vec<ViewChange>> {
    let mut changes = Vec::new();
    let ended = sqlx::query(
        "SELECT sid, end_reason, ended_at, MAX(exp, COALESCE(prev_exp, 0)) AS last_exp FROM sessions \
         WHERE ended_at IS NOT NULL AND MAX(exp, COALESCE(prev_exp, 0)) >= ?",
    )
    .bind(now_seconds)
    .fetch_all(&mut *connection)
    .await
    .during("load_sessions")?;
    for row in ended {
        let reason: String = row.try_get("end_reason").during("load_sessions")?;
        changes.push(ViewChange::SessionEnded {
            sid: row.try_get("sid").during("load_sessions")?,
            reason: EndReason::from_stored(&reason)?,
            effective_at: row.try_get("ended_at").during("load_sessions")?,
            until: ViewChange::end_of_second(row.try_get("last_exp").during("load_sessions")?),
        });
    }
    let spent = sqlx::query("SELECT jti, effective_at, exp FROM spent_tokens WHERE exp >= ?")
        .bind(now_seconds)
        .fetch_all(&mut *connection)
        .await
        .during("load_revocations")?;
    for row in spent {
        changes.push(ViewChange::TokenSpent {
            jti: row.try_get("jti").during("load_revocations")?,
            effective_at: row.try_get("effective_at").during("load_revocations")?,
            until: ViewChange::end_of_second(row.try_get("exp").during("load_revocations")?),
        });
    }
    let revoked = sqlx::query("SELECT level, target, until FROM revocations WHERE until IS NULL OR until >= ?")
        .bind(now_seconds.saturating_mul(1000))
        .fetch_all(&mut *connection)
        .await
        .during("load_revocations")?;
    for row in revoked {
        let level: String = row.try_get("level").during("load_revocations")?;
        changes.push(ViewChange::Revoked(Revocation {
            level: RevocationLevel::from_stored(&level)?,
            target: row.try_get("target").during("load_revocations")?,
            until: row.try_get("until").during("load_revocations")?,
        }));
    }
    Ok(changes)
}
