//! Copies of stores: whole, of one moment, and never in the way.

use std::fs::{self, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicI64, Ordering};

use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::file_names::beside;
use agentwrit_store::testing::surroundings;
use agentwrit_store::{Command, EventDraft, Store, Tx};
use async_trait::async_trait;
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::{OpenOptions, SqliteStore};

/// Enough for some steps of a copy.
const EVENTS: usize = 2_500;

/// An event of a good KiB.
struct Tell(usize);

#[async_trait]
impl Command for Tell {
    type Outcome = ();

    async fn run(self, tx: &mut dyn Tx) -> agentwrit_store::Result<()> {
        for number in 0..self.0 {
            let detail = format!("{number} {}", "x".repeat(1000));
            tx.audit(EventDraft::success(EventType::AdminAuth, detail));
        }
        Ok(())
    }
}

async fn open(folder: &TempDir) -> Store {
    let options = OpenOptions {
        mark: folder.path().join("store.mark"),
        ..OpenOptions::in_folder(folder.path())
    };
    Store::new(SqliteStore::open(options, surroundings().0).await.unwrap())
}

/// A folder with a store of so many events, closed.
async fn store_of(events: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.commit(Tell(events)).await.unwrap();
    store.close().await.unwrap();
    folder
}

fn watched(watch: impl Fn(Stage) -> ControlFlow<()> + Send + Sync + 'static) -> Watcher {
    Arc::new(watch)
}

fn unwatched() -> Watcher {
    watched(|_| ControlFlow::Continue(()))
}

fn copy(folder: &TempDir) -> Result<Copied> {
    let file = |name: &str| folder.path().join(name);
    backup(&file("data.db"), &file("copy.db"), &unwatched())
}

/// What is in the folder of the name of the copy.
fn left(folder: &TempDir) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("copy"));
    names.sort();
    names
}

fn run(folder: &TempDir, sql: &str) {
    let connection = Connection::open(folder.path().join("data.db")).unwrap();
    connection.execute_batch(sql).unwrap();
    connection.close().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_of_one_moment_while_commits_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.commit(Tell(EVENTS)).await.unwrap();
    let before = store.event_count();
    let (source, target) = (folder.path().join("data.db"), folder.path().join("copy.db"));
    let steps = Arc::new(AtomicI64::new(0));
    let (writer, counted, runtime) = (store.clone(), Arc::clone(&steps), tokio::runtime::Handle::current());
    let watcher = watched(move |stage| {
        if matches!(stage, Stage::Copying { .. }) {
            counted.fetch_add(1, Ordering::SeqCst);
            // In the middle of the copy: what had to wait for its end would never come.
            runtime.block_on(writer.commit(Tell(1))).unwrap();
        }
        ControlFlow::Continue(())
    });
    let copied = tokio::task::spawn_blocking(move || backup(&source, &target, &watcher))
        .await
        .unwrap()
        .unwrap();
    let steps = steps.load(Ordering::SeqCst);
    assert!(steps > 2, "{steps} steps");
    assert_eq!(
        (copied.events, copied.sequence),
        (before, before),
        "as it was at the beginning"
    );
    assert!(store.event_count() >= before + steps);
    assert_eq!(copied.epoch, store.epoch());
    assert_eq!(copied.bytes, fs::metadata(folder.path().join("copy.db")).unwrap().len());
    store.close().await.unwrap();
    assert!(
        !folder.path().join("data.db-wal").exists(),
        "nothing holds the store's WAL"
    );
}

#[tokio::test]
async fn a_copy_is_one_private_file_that_can_be_read_anywhere() {
    let folder = store_of(3).await;
    copy(&folder).unwrap();
    assert_eq!(left(&folder), ["copy.db"], "nothing is beside it");
    let path = folder.path().join("copy.db");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = Connection::open_with_flags(&path, flags).unwrap();
    let text = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(
        (
            text("PRAGMA integrity_check").as_str(),
            text("PRAGMA journal_mode").as_str()
        ),
        ("ok", "delete")
    );
    assert_eq!(left(&folder), ["copy.db"], "nor does a reader put anything there");
}

#[tokio::test]
async fn a_copy_has_what_a_killed_broker_left_in_its_wal() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.commit(Tell(3)).await.unwrap();
    // As kill -9 leaves it: the file as it was when it was made, and everything in the WAL.
    let killed = tempfile::tempdir().unwrap();
    for name in ["data.db", "data.db-wal"] {
        fs::copy(folder.path().join(name), killed.path().join(name)).unwrap();
    }
    let copied = copy(&killed).unwrap();
    assert_eq!((copied.events, copied.epoch), (store.event_count(), store.epoch()));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_store_opens_from_its_copy_where_it_was() {
    let folder = store_of(EVENTS).await;
    let copied = copy(&folder).unwrap();
    fs::rename(folder.path().join("copy.db"), folder.path().join("data.db")).unwrap();
    let store = open(&folder).await;
    assert_eq!((store.event_count(), store.epoch()), (copied.events, copied.epoch));
    store.commit(Tell(1)).await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_name_that_will_not_do_is_refused_before_anything_is_done() {
    let folder = store_of(1).await;
    let file = |name: &str| folder.path().join(name);
    let store = file("data.db");
    for (name, content) in [("there", "x"), ("copy.db", ""), ("data.db.reserve", "x")] {
        fs::write(file(name), content).unwrap();
    }
    fs::hard_link(&store, file("same.db")).unwrap();
    symlink("nowhere", file("copy.link")).unwrap();
    symlink(folder.path(), file("again")).unwrap();
    let refused = |name: &str| backup(&store, &file(name), &unwatched()).unwrap_err();
    for (name, says) in [
        ("copy.db", "is there already"),
        ("copy.link", "is there already"),
        ("again", "is there already"),
        ("data.db", "the store itself"),
        ("same.db", "the store itself"),
        ("again/data.db", "the store itself"),
        ("data.db-wal", "files beside it"),
        ("again/data.db-wal", "files beside it"),
        ("data.db-journal", "files beside it"),
        ("data.db.lock", "files beside it"),
        ("data.db.reserve", "files beside it"),
        ("none/copy.db", "make it"),
        ("there/copy.db", "make it"),
    ] {
        let text = refused(name).to_string();
        assert!(
            text.contains(says) && text.contains(&*file("").to_string_lossy()),
            "{name}: {text}"
        );
    }
    assert!(matches!(refused("again/.."), BackupError::Exists(_)));
    assert_eq!(left(&folder), ["copy.db", "copy.link"]);
    assert_eq!(fs::read(file("copy.db")).unwrap(), b"", "it was left alone");
}

#[tokio::test]
async fn what_is_no_store_of_ours_is_refused() {
    let folder = store_of(1).await;
    run(&folder, "PRAGMA user_version = 999");
    let error = copy(&folder).unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, BackupError::Newer { version: 999, .. }) && text.contains("schema 999"),
        "{text}"
    );
    run(&folder, "DELETE FROM meta WHERE key = 'epoch'");
    let no_epoch = copy(&folder).unwrap_err().to_string();
    let path = folder.path().join("data.db");
    fs::remove_file(&path).unwrap();
    let missing = copy(&folder).unwrap_err();
    assert!(matches!(missing, BackupError::NoStore { .. }), "{missing}");
    fs::create_dir(&path).unwrap();
    let a_folder = copy(&folder).unwrap_err().to_string();
    fs::remove_dir(&path).unwrap();
    fs::write(&path, "").unwrap();
    let empty = copy(&folder).unwrap_err().to_string();
    fs::write(&path, "rubbish ".repeat(1000)).unwrap();
    let rubbish = copy(&folder).unwrap_err().to_string();
    fs::remove_file(&path).unwrap();
    run(
        &folder,
        "CREATE TABLE meta (key TEXT, value BLOB); INSERT INTO meta VALUES ('epoch', x'00')",
    );
    let foreign = copy(&folder).unwrap_err().to_string();
    for text in [no_epoch, a_folder, empty, rubbish, foreign, missing.to_string()] {
        assert!(text.contains("data.db") && text.contains("AA_DB_PATH"), "{text}");
    }
    assert!(left(&folder).is_empty());
}

#[tokio::test]
async fn a_store_of_an_earlier_schema_is_copied_as_it_is() {
    let folder = store_of(3).await;
    run(&folder, "PRAGMA user_version = 11");
    assert_eq!(copy(&folder).unwrap().events, 3);
    let connection = Connection::open(folder.path().join("copy.db")).unwrap();
    let version: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    assert_eq!(version, 11);
}

#[tokio::test]
async fn a_damaged_store_gives_no_copy() {
    let folder = store_of(EVENTS).await;
    let path = folder.path().join("data.db");
    let whole = fs::read(&path).unwrap();
    // An index that lacks a row, which nothing but the check would notice.
    run(
        &folder,
        "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'audit_events_who'",
    );
    let error = copy(&folder).unwrap_err();
    assert!(matches!(error, BackupError::Damaged(_)), "{error}");
    fs::write(&path, &whole).unwrap();
    let change =
        "UPDATE audit_events SET json = replace(json, 'xxx', 'xyx') WHERE seq = (SELECT max(seq) FROM audit_events)";
    run(&folder, change);
    let error = copy(&folder).unwrap_err();
    assert!(error.to_string().contains("audit chain is broken"), "{error}");
    fs::write(&path, &whole).unwrap();
    let mut file = fs::File::options().read(true).write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(64 * 4096)).unwrap();
    file.write_all(&[0xff; 4096]).unwrap();
    drop(file);
    let error = copy(&folder).unwrap_err();
    assert!(matches!(error, BackupError::Damaged(_)), "{error}");
    assert!(left(&folder).is_empty());
}

#[tokio::test]
async fn a_backup_that_is_stopped_leaves_nothing() {
    let folder = store_of(EVENTS).await;
    let file = |name: &str| folder.path().join(name);
    for at in [0, 1, 2] {
        let asked = AtomicI64::new(0);
        let watcher = watched(move |stage| {
            let number = asked.fetch_add(1, Ordering::SeqCst);
            // The last one while it is checked.
            let stop = number == at || (at == 2 && stage == Stage::Checking);
            if stop && (at < 2 || stage == Stage::Checking) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        let error = backup(&file("data.db"), &file("copy.db"), &watcher).unwrap_err();
        assert!(matches!(error, BackupError::Stopped), "{at}: {error}");
        assert!(left(&folder).is_empty(), "{at}: {:?}", left(&folder));
    }
}

#[tokio::test]
async fn a_killed_backups_file_is_taken_over_and_a_live_ones_is_not() {
    let folder = store_of(3).await;
    let partial = folder.path().join("copy.db.partial");
    fs::write(&partial, vec![7; 1 << 20]).unwrap();
    fs::set_permissions(&partial, Permissions::from_mode(0o644)).unwrap();
    fs::write(beside(&partial, "-journal"), "old").unwrap();
    let live = fs::File::open(&partial).unwrap();
    live.lock().unwrap();
    let error = copy(&folder).unwrap_err();
    assert!(matches!(error, BackupError::Running(_)), "{error}");
    assert_eq!(fs::metadata(&partial).unwrap().len(), 1 << 20, "it was left alone");
    drop(live);
    assert_eq!(copy(&folder).unwrap().events, 3);
    assert_eq!(left(&folder), ["copy.db"]);
    let mode = fs::metadata(folder.path().join("copy.db"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    // A link in its place would have another file overwritten.
    fs::remove_file(folder.path().join("copy.db")).unwrap();
    symlink("store.mark", &partial).unwrap();
    let mark = fs::read(folder.path().join("store.mark")).unwrap();
    assert!(matches!(copy(&folder).unwrap_err(), BackupError::File { .. }));
    assert_eq!(fs::read(folder.path().join("store.mark")).unwrap(), mark);
}

#[tokio::test]
async fn a_copy_that_can_not_fit_is_refused_at_once() {
    let folder = store_of(3).await;
    // A store of 4 TiB, nearly all of it a hole: pages of 4 KiB, whose number stands in bytes 28 to 31 of the header.
    let path = folder.path().join("data.db");
    let mut file = fs::File::options().read(true).write(true).open(&path).unwrap();
    let mut page_size = [0; 2];
    file.seek(SeekFrom::Start(16)).unwrap();
    file.read_exact(&mut page_size).unwrap();
    assert_eq!(u16::from_be_bytes(page_size), 4096);
    file.set_len(1 << 42).unwrap();
    file.seek(SeekFrom::Start(28)).unwrap();
    file.write_all(&(1_u32 << 30).to_be_bytes()).unwrap();
    drop(file);
    let error = copy(&folder).unwrap_err();
    assert!(
        matches!(error, BackupError::NoRoom { needed, .. } if needed == 1 << 42),
        "{error}"
    );
    assert!(left(&folder).is_empty());
}
