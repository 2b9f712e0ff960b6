//! What isn't moved, and why.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use tempfile::TempDir;

use super::everything::embedded;
use super::filled::{EVENTS, tell};
use super::{moved, run, server, started, stopped};

/// A folder with the store of a broker that has stopped.
pub(crate) fn store() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let process = started(folder.path(), &[], None);
    process.agent();
    stopped(process);
    folder
}

pub(crate) fn change(folder: &Path, sql: &str) {
    let connection = Connection::open(folder.join("data.db")).unwrap();
    connection.execute_batch(sql).unwrap();
    connection.close().unwrap();
}

/// Runs it, and checks that it fails with one line that says all this.
pub(crate) fn refused(folder: &Path, arguments: &[&str], settings: &[(&str, &str)], says: &[&str]) {
    let (code, out, err) = run(folder, arguments, settings);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(err.starts_with("FATAL: ") && err.lines().count() == 1, "{err}");
    for words in says {
        assert!(err.contains(words), "{err} should say {words:?}");
    }
}

/// How much is in the tables of a database.
pub(crate) fn rows(database: &str) -> String {
    let tables = agentwrit_store::content::TABLES.iter().map(|table| table.name);
    let counts: Vec<_> = tables
        .chain(["audit_events", "audit_segments", "chain_head"])
        .map(|table| format!("(SELECT count(*) FROM agentwrit.{table})"))
        .collect();
    server()
        .sql(database, &format!("SELECT {}", counts.join(" + ")))
        .unwrap()
}

#[test]
fn only_a_store_that_nobody_uses_is_moved() {
    let folder = store();
    let folder = folder.path();
    let database = server().database();
    let url = server().url("owner", &database);
    let to = |from: &str, says: &[&str]| {
        let from = format!("sqlite:{from}");
        refused(folder, &["--from", &from, "--to", &url], &[], says);
    };
    to("none.db", &["there is no store none.db", "--from sqlite:PATH"]);
    to(".", &["is no store of a broker (it is no file)"]);
    fs::write(folder.join("other.db"), "rubbish ".repeat(1000)).unwrap();
    to("other.db", &["it is no SQLite file"]);
    fs::write(folder.join("other.db"), "").unwrap();
    to("other.db", &["it has no epoch"]);
    let running = started(folder, &[], None);
    to("data.db", &["data.db.lock is held by a broker", "stop it first"]);
    stopped(running);
    for note in ["data.db.ran-on-memory", "signing.key.ran-on-memory"] {
        fs::write(folder.join(note), "").unwrap();
        to("data.db", &["ran on memory", "start a broker with the file once"]);
        fs::remove_file(folder.join(note)).unwrap();
    }
    change(folder, "PRAGMA user_version = 11");
    to("data.db", &["has schema 11", "start this version's broker"]);
    change(folder, "PRAGMA user_version = 999");
    to("data.db", &["has schema 999", "or a later one"]);
    let latest = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/store-sqlite/src/schema"))
        .unwrap()
        .count();
    change(folder, &format!("PRAGMA user_version = {latest}"));
    let schema = "SELECT count(*) FROM pg_namespace WHERE nspname = 'agentwrit'";
    assert_eq!(
        server().sql(&database, schema).unwrap(),
        "0",
        "the database wasn't touched"
    );
    moved(folder, &url);
    to("data.db", &["was moved to postgres://owner@", "already"]);
}

/// A store whose trail is broken where no opening broker looks.
pub(crate) async fn broken_long_ago() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let bench = embedded(folder.path()).await;
    tell(&bench, EVENTS).await;
    bench.store.close().await.unwrap();
    let sql = "UPDATE audit_events SET json = replace(json, 'admin', 'nobod') WHERE seq = 2";
    change(folder.path(), sql);
    embedded(folder.path()).await.store.close().await.unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trail_that_is_broken_long_ago_is_not_moved() {
    let folder = broken_long_ago().await;
    let database = server().database();
    let url = server().url("owner", &database);
    let arguments = ["--from", "sqlite:data.db", "--to", &url];
    refused(
        folder.path(),
        &arguments,
        &[],
        &["data.db can't be moved", "evt-000002: its hash"],
    );
    assert_eq!(rows(&database), "0");
}

#[test]
fn a_trail_that_no_broker_would_open_is_not_moved() {
    let folder = store();
    let whole = fs::read(folder.path().join("data.db")).unwrap();
    let database = server().database();
    let url = server().url("owner", &database);
    let arguments = ["--from", "sqlite:data.db", "--to", &url];
    for sql in [
        "UPDATE audit_events SET json = replace(json, 'admin', 'nobod') WHERE seq = 2",
        "DELETE FROM audit_events WHERE seq = 3",
        "DELETE FROM audit_events WHERE seq = (SELECT max(seq) FROM audit_events)",
        "UPDATE meta SET value = replace(value, '\"sequence\":', '\"sequence\":1') WHERE key = 'audit_checkpoint'",
    ] {
        change(folder.path(), sql);
        refused(
            folder.path(),
            &arguments,
            &[],
            &["data.db can't be moved", "audit chain is broken"],
        );
        fs::write(folder.path().join("data.db"), &whole).unwrap();
    }
    moved(folder.path(), &url);
}

#[test]
fn only_an_empty_database_of_ones_own_is_moved_to() {
    let folder = store();
    let folder = folder.path();
    let database = server().database();
    let url = server().url("owner", &database);
    let from = ["--from", "sqlite:data.db"];
    let to = |url: &str, says: &[&str]| refused(folder, &[from[0], from[1], "--to", url], &[], says);
    refused(folder, &from, &[], &["no database is named", "AA_DATABASE_URL_FILE"]);
    refused(
        folder,
        &from,
        &[("AA_DATABASE_URL", "postgres://u:hunter2@h/d")],
        &["AA_DATABASE_URL", "sslrootcert"],
    );
    to(
        &server().url("nobody_of_this_name", &database),
        &["nobody_of_this_name"],
    );
    to("postgres://u@127.0.0.1:1/d?sslmode=disable", &["connect"]);
    let (code, _, err) = run(
        folder,
        &[from[0], from[1], "--to", "postgres://u:hunter2@h/d?sslmode=disable"],
        &[],
    );
    assert_eq!(code, Some(2), "{err}");
    assert!(
        err.contains("AA_DATABASE_PASSWORD_FILE") && !err.contains("hunter2"),
        "{err}"
    );
    let (code, out, _) = run(folder, &["--help"], &[]);
    assert!(code == Some(0) && out.contains("Examples:"), "{out}");

    let other = tempfile::tempdir().unwrap();
    let process = started(other.path(), &[], Some(&url));
    process.agent();
    stopped(process);
    to(
        &url,
        &[
            "the database isn't empty, it has",
            " audit events, 1 signing keys, ",
            "1 sessions",
            "DROP SCHEMA agentwrit",
        ],
    );
    let role = format!("role_{database}");
    let grant = format!("CREATE ROLE {role} LOGIN; SELECT agentwrit.grant_broker('{role}')");
    server().sql(&database, &grant).unwrap();
    to(
        &server().url(&role, &database),
        &[&role, "doesn't own the tables", "grant_broker"],
    );
    server().sql(&database, "DROP SCHEMA agentwrit CASCADE").unwrap();
    let report = moved(folder, &url);
    server()
        .sql(&database, &format!("SELECT agentwrit.grant_broker('{role}')"))
        .unwrap();
    let process = started(folder, &[], Some(&server().url(&role, &database)));
    let health = process.ask("GET /v1/health", "", "");
    assert!(
        health.body["audit_events_count"].as_i64() >= report["events"].as_i64(),
        "{health:?}"
    );
}
