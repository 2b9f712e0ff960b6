//! Opening: lock file, connection, schema, identity of the store, chain, revocation view.

use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agentwrit_protocol::file_names::beside;
use agentwrit_protocol::{StoreMark, UnixSeconds};
use agentwrit_store::{MetaKey, Remembered, Result, StoreError, StoreLocation};
use agentwrit_trail::{ChainHead, Finding, Rule};
use rusqlite::{Connection, OpenFlags};

use super::error::Operation;
use super::identity::{claim, read_or_begin_epoch};
use super::indexes::Indexes;
use super::restored::{begin_anew, judge};
use super::revocation_changes::load_revocations;
use super::schema::migrate;
use super::shared::Shared;
use super::statements::{Statements, begin};
use crate::audit::segments;
use crate::audit::tail::verify_tail;
use crate::disk::space::Space;
use crate::disk::stale_wal;
use crate::facts;
use crate::rows::segments::reusable_bytes;
use crate::rows::signing_keys;

/// How long to wait while another process holds the write lock, which none should: ours is the one writer. A batch that
/// fails waits up to three times (BEGIN, the probe, opening again), and its callers with it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
const CACHED_STATEMENTS: usize = 256;
/// One thread uses a connection at a time; a path is a path, never a URI with options.
const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
const OPEN: &str = "open";
const OWNER_ONLY: u32 = 0o600;
const LOCK: &str = ".lock";

/// An open store.
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    pub(crate) head: ChainHead,
    /// Which status indexes are held.
    pub(crate) indexes: Indexes,
    /// When the high-water mark was last kept, monotonic.
    pub(crate) mark_kept: Option<Duration>,
}

/// The lock on `<path>.lock`, held while the value lives.
pub(crate) struct StoreLock {
    file: File,
}

impl StoreLock {
    /// Whether its file is still the one of this name.
    fn is_at(&self, name: &Path) -> bool {
        let of = |found: std::io::Result<Metadata>| found.ok().map(|found| (found.dev(), found.ino()));
        let held = of(self.file.metadata());
        held.is_some() && held == of(std::fs::metadata(name))
    }
}

/// The lock of a store, kept from its first opening on. Also while a store can't be opened it has its broker, which takes it
/// again as soon as it can: nobody else may write into it meanwhile, or move it.
#[derive(Default)]
pub(crate) struct Held {
    lock: Option<StoreLock>,
}

impl Held {
    /// Takes the lock, unless it is held. One whose file is gone excludes nobody.
    fn take(&mut self, path: &Path) -> Result<()> {
        let name = beside(path, LOCK);
        if !self.lock.as_ref().is_some_and(|held| held.is_at(&name)) {
            self.lock = None;
            self.lock = Some(lock(path)?);
        }
        Ok(())
    }
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        // Said, not left to the closing: a process that was forked and has not yet become another program holds a copy of the
        // descriptor, and the lock with it (flock(2)). Nothing can be done when it fails.
        let _ = self.file.unlock();
    }
}

/// Takes the lock file of a store, so that no two brokers write one chain.
pub(crate) fn lock(path: &Path) -> Result<StoreLock> {
    let name = beside(path, LOCK);
    let path = name.display().to_string();
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
        Ok(()) => Ok(StoreLock { file }),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::Locked { path }),
        Err(std::fs::TryLockError::Error(source)) => Err(StoreError::File { path, source }),
    }
}

/// Makes the file unless it is there, readable by its owner only; SQLite gives WAL and index the same mode.
///
/// A file that is there isn't opened: closing it would take away the locks that readers of this process hold on it
/// (fcntl(2)), and the next program that closes its own connection would remove the WAL under them.
fn create(path: &Path) -> Result<()> {
    let made = File::options().create_new(true).write(true).mode(OWNER_ONLY).open(path);
    match made {
        Err(source) if source.kind() != ErrorKind::AlreadyExists => Err(StoreError::File {
            path: path.display().to_string(),
            source,
        }),
        _ => Ok(()),
    }
}

/// A connection that writes.
fn connect(kind: &StoreLocation) -> Result<Connection> {
    let connection = match kind {
        StoreLocation::File(path) => Connection::open_with_flags(path, FLAGS | OpenFlags::SQLITE_OPEN_READ_WRITE),
        StoreLocation::Memory => Connection::open_in_memory(),
    }
    .during(OPEN)?;
    connection.busy_timeout(BUSY_TIMEOUT).during(OPEN)?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
        .during(OPEN)?;
    Ok(connection)
}

/// A connection beside it that only reads.
pub(super) fn connect_reader(path: &Path) -> Result<Connection> {
    let connection = Connection::open_with_flags(path, FLAGS | OpenFlags::SQLITE_OPEN_READ_ONLY).during(OPEN)?;
    connection.busy_timeout(BUSY_TIMEOUT).during(OPEN)?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    Ok(connection)
}

/// Whether this happened because there is no room on the disk.
pub(super) fn lacks_room(kind: &StoreLocation, error: &StoreError) -> bool {
    let Some(path) = kind.path() else { return false };
    match error.kind() {
        "disk_full" => true,
        // Of a quota, and of a file that is mapped, SQLite says no more than this.
        "io" => Space::lacks_room(path),
        _ => false,
    }
}

/// Tells [`agentwrit_store::DiskSpace`] of the free pages in the file.
pub(super) fn note_reusable(connection: &Connection, shared: &Shared) -> Result<()> {
    let bytes = reusable_bytes(connection)?;
    shared.status.space.reusable(u64::try_from(bytes).unwrap_or_default());
    Ok(())
}

/// Opens the store and loads the view from it; on a full disk with room from the reserve, as long as there is any: until
/// the store is open nothing can be revoked.
pub(crate) fn open(kind: &StoreLocation, shared: &Shared, holding: &mut Held) -> Result<Opened> {
    if let Some(path) = kind.path() {
        shared.status.space.learn(path);
    }
    loop {
        match open_once(kind, shared, holding) {
            Err(error) if lacks_room(kind, &error) && shared.status.space.give_up() => {}
            other => return other,
        }
    }
}

fn open_once(kind: &StoreLocation, shared: &Shared, holding: &mut Held) -> Result<Opened> {
    if let StoreLocation::File(path) = kind {
        holding.take(path)?;
        if shared.status.openings.load(Ordering::SeqCst) == 0 && stale_wal::remove(path)? {
            tracing::warn!(target: "STORE", component = "Restore",
                "the store was put back from a copy, and the WAL beside it was of another: it is removed");
        }
        create(path)?;
    }
    let mut connection = connect(kind)?;
    let claim = claim(&connection, shared)?;
    migrate(&connection)?;
    let is_declared = is_declared(&connection, shared)?;
    if let (StoreLocation::File(path), false) = (kind, is_declared) {
        refuse_moved(&connection, path)?;
    }
    shared.judging.load(facts::high_water(&connection)?);
    let forgetful = matches!(kind, StoreLocation::File(_)) && shared.memory_run.noted();
    shared.signer.learn(&signing_keys::all(&connection)?);
    let mut head = verify_tail(&connection, shared.signer.as_ref())?;
    head.kept = segments::load(&mut connection, shared.retention.cut())?;
    // Before a new epoch may begin for another reason: the mark would then be of a former one, and say nothing.
    let known = facts::read(&connection, MetaKey::Epoch)?;
    let mut found = None;
    if let (Some(epoch), StoreLocation::File(_)) = (&known, kind) {
        found = finding(&connection, &head.mark(epoch.clone()), is_declared, shared)?;
    }
    let mut identity = read_or_begin_epoch(&mut connection, &mut head, shared, &claim, forgetful)?;
    probe(&mut connection)?;
    if matches!(kind, StoreLocation::File(_)) {
        if known.is_none() {
            found = finding(&connection, &head.mark(identity.epoch.clone()), is_declared, shared)?;
        }
        if let Some(finding) = found {
            identity = begin_anew(&mut connection, &mut head, &identity, &finding, shared)?;
        }
        shared.restored.store(false, Ordering::SeqCst);
    }
    let indexes = Indexes::load(&connection, shared)?;
    note_reusable(&connection, shared)?;
    shared.matches.clear();
    load_revocations(&connection, shared, identity.min_iat)?;
    shared.status.opened(identity.epoch, &head);
    shared.observer.trail_takes(head.kept.bytes(), head.kept.segments);
    if matches!(kind, StoreLocation::File(_)) {
        shared.mark.keep(|| shared.status.mark());
    }
    if forgetful {
        tracing::warn!(target: "STORE", component = "InitDB",
            "a broker ran on memory since this store was last open: all tokens of before are refused");
        shared.memory_run.forget();
    }
    Ok(Opened {
        connection,
        head,
        indexes,
        mark_kept: None,
    })
}

/// Refuses a store whose content a person has moved elsewhere.
pub(crate) fn refuse_moved(connection: &Connection, path: &Path) -> Result<()> {
    match facts::read(connection, MetaKey::MovedTo)? {
        Some(to) => Err(StoreError::Moved {
            path: path.display().to_string(),
            to,
        }),
        None => Ok(()),
    }
}

/// Whether a person says that the store was put back, and no epoch has begun since.
fn is_declared(connection: &Connection, shared: &Shared) -> Result<bool> {
    if !shared.restored.load(Ordering::SeqCst) {
        return Ok(false);
    }
    let min_iat = facts::read(connection, MetaKey::MinIat)?.and_then(|text| text.parse().ok());
    Ok(shared.put_back.is_news(UnixSeconds::new(min_iat.unwrap_or_default())))
}

/// What makes the store a restored one: a person's word, or the file outside it.
fn finding(
    connection: &Connection,
    present: &StoreMark,
    is_declared: bool,
    shared: &Shared,
) -> Result<Option<Finding>> {
    let remembered = match shared.mark.read() {
        // A person's word needs no mark.
        Err(StoreError::Mark { source, .. }) if is_declared => Remembered::Unreadable(source.to_string()),
        remembered => remembered?,
    };
    if let Remembered::Unreadable(why) = &remembered {
        tracing::warn!(target: "STORE", component = "Mark", why, "the store's mark can't be read");
    }
    let (rule, by) = if is_declared {
        (Some(Rule::Declared), "--restored")
    } else {
        (judge(connection, present, &remembered)?, "AA_STORE_MARK")
    };
    Ok(rule.map(|rule| Finding { rule, remembered, by }))
}

/// Whether the store takes a write, and one of some size: on a full disk a failed batch leaves room that a single page
/// still fits into. The content differs each time, since SQLite doesn't write what is there already.
pub(super) fn probe(connection: &mut Connection) -> Result<()> {
    const OPERATION: &str = "probe";
    let transaction = begin(connection, OPERATION)?;
    let sql = "INSERT INTO meta (key, value) VALUES (?, hex(randomblob(131072))) \
               ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    transaction.change(OPERATION, sql, [MetaKey::WriteProbe.as_str()])?;
    transaction.commit().during(OPERATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reopening_leaves_the_locks_of_readers_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.db");
        create(&path).unwrap();
        let writer = connect(&StoreLocation::File(path.clone())).unwrap();
        writer.execute_batch("CREATE TABLE found (x)").unwrap();
        let reader = connect_reader(&path).unwrap();
        drop(writer);
        reader.execute_batch("SELECT * FROM found").unwrap();
        let inode = format!(":{} ", std::fs::metadata(&path).unwrap().ino());
        let held = || std::fs::read_to_string("/proc/locks").unwrap().matches(&inode).count();
        assert_eq!(held(), 1, "the reader's");
        create(&path).unwrap();
        assert_eq!(held(), 1, "the reader's");
    }

    #[test]
    fn a_lock_whose_file_is_gone_is_taken_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.db");
        let mut held = Held::default();
        held.take(&path).unwrap();
        held.take(&path).unwrap();
        assert!(matches!(Held::default().take(&path), Err(StoreError::Locked { .. })));
        std::fs::remove_file(beside(&path, LOCK)).unwrap();
        held.take(&path).unwrap();
        assert!(matches!(lock(&path), Err(StoreError::Locked { .. })));
        drop(held);
        assert!(lock(&path).is_ok());
    }

    #[test]
    fn a_lock_ends_with_its_store_despite_copied_descriptors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.db");
        let held = lock(&path).unwrap();
        // As a child process has one, between fork and exec.
        let _copy = held.file.try_clone().unwrap();
        assert!(matches!(lock(&path), Err(StoreError::Locked { .. })));
        drop(held);
        assert!(lock(&path).is_ok());
    }
}
