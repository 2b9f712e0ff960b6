//! Which store the brokers of a test run have: `AGENTWRIT_STORE=sqlite`, which is the default, or `postgres`.
//!
//! On PostgreSQL each folder has a database of its own, on one server that ends with the process. Tests about the file are
//! listed in `tests/embedded-only.txt`, with the reason: they have their file there, too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agentwrit_store_postgres::testing::server;
use parking_lot::Mutex;

const LIST: &str = include_str!("../../tests/embedded-only.txt");
/// What a statement of a test needs: our names, and no trigger in its way.
const PAST_THE_BROKER: &str = "SET search_path = agentwrit; SET session_replication_role = replica; ";

/// Whether the brokers of this test have databases.
pub fn on_postgres() -> bool {
    match std::env::var("AGENTWRIT_STORE").as_deref() {
        Err(_) | Ok("" | "sqlite") => false,
        Ok("postgres") => !is_about_a_file(),
        Ok(other) => panic!("AGENTWRIT_STORE={other:?} must be sqlite or postgres"),
    }
}

/// Whether the test of this thread is in the list: `broker/tests/PROGRAM/MODULES.rs::NAME`. The test harness names threads
/// after tests.
fn is_about_a_file() -> bool {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default();
    assert_ne!(
        test, "main",
        "on PostgreSQL tests need threads of their own: --test-threads=2 or more"
    );
    let program = std::env::current_exe().unwrap();
    let program = program.file_stem().unwrap().to_str().unwrap();
    let program = program.rsplit_once('-').map_or(program, |(name, _)| name);
    let Some((modules, name)) = test.rsplit_once("::") else {
        return false;
    };
    listed(&format!(
        "broker/tests/{program}/{}.rs::{name}",
        modules.replace("::", "/")
    ))
}

fn listed(test: &str) -> bool {
    LIST.lines()
        .any(|line| line.split_once(": ").is_some_and(|(name, _)| name.trim_end() == test))
}

/// The name of a folder's database.
fn database(folder: &Path) -> String {
    static MADE: Mutex<BTreeMap<PathBuf, String>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock();
    made.entry(folder.to_owned())
        .or_insert_with(|| server().database())
        .clone()
}

/// The settings of a broker in this folder that say where its store is.
pub fn settings(folder: &Path) -> [(&'static str, String); 1] {
    if on_postgres() {
        [("AA_DATABASE_URL", server().url("owner", &database(folder)))]
    } else {
        [("AA_DB_PATH", folder.join("data.db").display().to_string())]
    }
}

/// The URL of a database that is of no folder.
pub fn another_database() -> String {
    server().url("owner", &server().database())
}

/// Changes the store in a folder past the broker. Answers how many rows it changed; none for a change of the schema.
pub fn change(folder: &Path, sql: &str) -> usize {
    if !on_postgres() {
        let store = rusqlite::Connection::open(folder.join("data.db")).unwrap();
        return store.execute(sql, []).unwrap();
    }
    let is_of_rows = ["UPDATE", "DELETE", "INSERT"].iter().any(|word| sql.starts_with(word));
    let sql = if is_of_rows {
        format!("{PAST_THE_BROKER}WITH changed AS ({sql} RETURNING 1) SELECT count(*) FROM changed")
    } else {
        format!("{PAST_THE_BROKER}{sql}")
    };
    let answer = server().sql(&database(folder), &sql).unwrap();
    answer.parse().unwrap_or_default()
}

/// The one value that a question about the store in a folder has, as text.
pub fn value(folder: &Path, sql: &str) -> String {
    if on_postgres() {
        return server()
            .sql(&database(folder), &format!("{PAST_THE_BROKER}{sql}"))
            .unwrap();
    }
    let store = rusqlite::Connection::open(folder.join("data.db")).unwrap();
    let found = store
        .query_row(sql, [], |row| row.get::<_, rusqlite::types::Value>(0))
        .unwrap();
    match found {
        rusqlite::types::Value::Integer(number) => number.to_string(),
        rusqlite::types::Value::Text(text) => text,
        other => panic!("{sql}: {other:?}"),
    }
}

/// All that was written about the broker in a folder but for its logs and its key.
pub fn written(folder: &Path) -> Vec<u8> {
    if on_postgres() {
        return server().dump(&database(folder)).into_bytes();
    }
    let mut bytes = std::fs::read(folder.join("data.db")).unwrap();
    // What a killed broker has written last.
    bytes.extend(std::fs::read(folder.join("data.db-wal")).unwrap_or_default());
    bytes
}

/// The key stays and the store goes.
pub fn lose(folder: &Path) {
    if on_postgres() {
        let name = database(folder);
        server().drop_database(&name);
        return server().create_database(&name, "template1");
    }
    for name in ["data.db", "data.db-wal", "data.db-shm"] {
        if let Err(error) = std::fs::remove_file(folder.join(name)) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        }
    }
}

/// A copy of the store of a broker that doesn't run.
pub struct Copy {
    folder: PathBuf,
    content: Content,
}

enum Content {
    File(Vec<u8>),
    /// Another database.
    Database(String),
}

impl Copy {
    /// Of the store in this folder.
    pub fn of(folder: &Path) -> Self {
        let content = if on_postgres() {
            Content::Database(server().copy_of(&database(folder)))
        } else {
            Content::File(std::fs::read(folder.join("data.db")).unwrap())
        };
        Self {
            folder: folder.to_owned(),
            content,
        }
    }

    /// Puts it where it came from.
    pub fn put_back(&self) {
        match &self.content {
            Content::File(bytes) => std::fs::write(self.folder.join("data.db"), bytes).unwrap(),
            Content::Database(copy) => {
                let name = database(&self.folder);
                server().drop_database(&name);
                server().create_database(&name, copy);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_the_list_is_about_a_file() {
        assert!(listed(
            "broker/tests/api/store.rs::memory_only_forgets_everything_and_says_so"
        ));
        assert!(!listed("broker/tests/api/store.rs::memory_only"));
        assert!(!listed("broker/tests/api/store.rs::two"));
    }
}
