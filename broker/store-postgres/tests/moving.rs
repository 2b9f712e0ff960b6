//! What a move has to know of the tables.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use agentwrit_store::content::{Kind, TABLES};
use agentwrit_store::testing::suite::Bench;
use agentwrit_store_postgres::testing::Database;

/// Tables that don't go as rows: the trail, and what is of this store alone.
const OTHERS: [&str; 7] = [
    "audit_segments",
    "chain_head",
    "committers",
    "dropped_segments",
    "schema_versions",
    "trail_rules",
    "view_changes",
];

#[tokio::test]
async fn all_columns_are_moved() {
    let database = Database::new();
    Bench::open(&database).await.store.close().await.unwrap();
    let sql = "SELECT table_name || ' ' || string_agg(column_name || ' ' || data_type, ', ' ORDER BY column_name) \
               FROM information_schema.columns WHERE table_schema = 'agentwrit' AND table_name NOT LIKE 'audit_events%' \
               AND column_name <> 'open_root' \
               GROUP BY table_name ORDER BY table_name";
    let found = database.sql(sql).unwrap();
    let found = found
        .lines()
        .filter(|line| !OTHERS.contains(&line.split(' ').next().unwrap()));
    let mut known: Vec<_> = TABLES
        .iter()
        .map(|table| {
            let mut columns: Vec<_> = table.columns.iter().collect();
            columns.sort_by_key(|column| column.name);
            let texts = columns.iter().map(|column| match column.kind {
                Kind::Whole => format!("{} bigint", column.name),
                Kind::Text => format!("{} text", column.name),
                Kind::Flag => format!("{} boolean", column.name),
            });
            format!("{} {}", table.name, texts.collect::<Vec<_>>().join(", "))
        })
        .collect();
    known.sort();
    assert_eq!(found.collect::<Vec<_>>(), known);
}
