//! What is long past goes from every table of both stores, whatever was in it.

use std::collections::BTreeMap;
use std::path::Path;

use agentwrit_store::SweepTask;
use agentwrit_store::content::TABLES;
use agentwrit_store::testing::suite::Bench;

use super::everything::{database, embedded};
use super::filled::fill;
use super::server;

/// Longer than anything is kept.
const LONG: i64 = 400 * 86_400;

/// What time takes away from nobody.
const STAY: [(&str, &str); 8] = [
    ("apps", "people register and deregister them"),
    ("denials", "the newest, by number"),
    ("meta", "one row for each fact"),
    ("pod_sessions", "as long as their pods, at most 100 of each"),
    ("pods", "until the controller says that they are gone"),
    ("policies", "until the controller removes them"),
    (
        "quarantined_pods",
        "until the controller says that they are gone, or a person releases them",
    ),
    (
        "signing_keys",
        "of all times, so that old statements verify; at most 1,000",
    ),
];

async fn swept(bench: &Bench) {
    bench.clock.advance(LONG);
    // A session goes after its status index is free again.
    for _ in 0..2 {
        for task in SweepTask::ALL {
            while bench.commit(move |tx| tx.sweep(task)).await.unwrap() > 0 {}
        }
    }
}

fn in_file(folder: &Path) -> BTreeMap<&'static str, i64> {
    let store = rusqlite::Connection::open(folder.join("data.db")).unwrap();
    let count = |name: &str| store.query_row(&format!("SELECT count(*) FROM {name}"), [], |row| row.get(0));
    TABLES
        .iter()
        .map(|table| (table.name, count(table.name).unwrap()))
        .collect()
}

fn in_database(name: &str, tables: &[&'static str]) -> BTreeMap<&'static str, i64> {
    let count = |table: &str| {
        server()
            .sql(name, &format!("SELECT count(*) FROM agentwrit.{table}"))
            .unwrap()
    };
    tables
        .iter()
        .map(|table| (*table, count(table).parse().unwrap()))
        .collect()
}

fn nothing_else_is_left(before: &BTreeMap<&str, i64>, after: &BTreeMap<&str, i64>) {
    let unused: Vec<_> = before.iter().filter(|(_, count)| **count == 0).collect();
    assert_eq!(unused, [], "tables of which this test proves nothing");
    let left: BTreeMap<_, _> = after
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(name, count)| (*name, *count))
        .collect();
    let stays = |name: &str| STAY.iter().any(|(stays, _)| *stays == name);
    let mut more: Vec<_> = left.iter().filter(|(name, _)| !stays(name)).collect();
    // A revocation for ever.
    more.retain(|entry| entry != &(&"revocations", &1));
    assert_eq!(more, [], "{left:?}");
    for (name, count) in &left {
        assert!(*count <= before[name], "{name}");
    }
}

#[tokio::test]
async fn what_is_long_past_goes_from_both_stores() {
    let folder = tempfile::tempdir().unwrap();
    let bench = embedded(folder.path()).await;
    fill(&bench).await;
    let before = in_file(folder.path());
    swept(&bench).await;
    nothing_else_is_left(&before, &in_file(folder.path()));
    bench.store.close().await.unwrap();

    let (folder, name) = (tempfile::tempdir().unwrap(), server().database());
    let bench = database(folder.path(), &name).await;
    fill(&bench).await;
    let mut tables: Vec<_> = TABLES.iter().map(|table| table.name).collect();
    tables.push("view_changes");
    let before = in_database(&name, &tables);
    swept(&bench).await;
    nothing_else_is_left(&before, &in_database(&name, &tables));
    bench.store.close().await.unwrap();
}
