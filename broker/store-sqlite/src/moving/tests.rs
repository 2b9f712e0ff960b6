//! What leaves a store, and which store it doesn't leave.

use agentwrit_store::content::TABLES;
use rusqlite::Connection;

use super::rows::query;
use crate::schema;

/// Tables that don't go as rows: the trail, whose events go as they are served, and SQLite's own.
const OTHERS: [&str; 4] = ["audit_events", "audit_segments", "audit_who", "sqlite_sequence"];

#[test]
fn all_columns_are_moved() {
    let connection = Connection::open_in_memory().unwrap();
    schema::migrate(&connection).unwrap();
    let texts = |sql: &str| {
        let mut statement = connection.prepare(sql).unwrap();
        let found = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        found.map(Result::unwrap).collect::<Vec<_>>()
    };
    let mut known: Vec<&str> = TABLES.iter().map(|table| table.name).chain(OTHERS).collect();
    known.sort_unstable();
    let found = texts("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name");
    assert_eq!(found, known, "a table that is in no list");
    for table in &TABLES {
        let all = texts(&format!("SELECT name FROM pragma_table_info('{}')", table.name));
        // A number of the row that says nothing but where it is.
        let all = all.iter().filter(|name| *name != "id" || table.numbered == Some("id"));
        assert_eq!(all.count(), table.columns.len(), "columns of {}", table.name);
        connection.prepare(&query(table)).unwrap();
    }
}
