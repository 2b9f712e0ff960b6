//! What a statement looks at doesn't depend on what the server knows of the tables.

#![allow(clippy::unwrap_used, reason = "tests")]

use agentwrit_protocol::UnixSeconds;
use agentwrit_store::testing::START;
use agentwrit_store::testing::suite::Bench;
use agentwrit_store::{Command, Foreseen, Result, Tx};
use agentwrit_store_postgres::testing::Database;
use async_trait::async_trait;

/// Rows that come while the server knows nothing of the tables.
const ROWS: u64 = 5_000;
const LOOKS: u64 = 20;
/// Index entries and rows that one look may read: those that it asks for, and a few neighbours.
const A_LOOK: u64 = 20;

fn in_a_minute() -> UnixSeconds {
    UnixSeconds::new(START + 60)
}

/// What is asked for again and again: whose session an agent has, and whether a nonce was used.
#[derive(Clone)]
struct Look(u64);

#[async_trait]
impl Command for Look {
    type Outcome = bool;

    fn foresees(&self) -> Vec<Foreseen> {
        vec![Foreseen::Nonce(format!("nonce-{}", self.0), in_a_minute().start())]
    }

    async fn run(self, tx: &mut dyn Tx) -> Result<bool> {
        let agent = format!("spiffe://agentwrit.local/agent/o/t/{:016x}", self.0);
        let session = tx.session_of_agent(&agent).await?;
        Ok(session.is_some_and(|session| session.delegated.is_none()))
    }
}

/// Rows and index entries of these tables that all connections have read; complete once they are closed. Without those of
/// the index through which a store reads which status indexes are held, when it is opened and now and then.
fn read(database: &Database) -> u64 {
    let sql = "SELECT sum(seq_tup_read) + (SELECT sum(idx_tup_read) FROM pg_stat_all_indexes WHERE schemaname = 'agentwrit' \
               AND relname IN ('sessions', 'nonces') AND indexrelname <> 'sessions_kept') FROM pg_stat_all_tables WHERE schemaname = 'agentwrit' \
               AND relname IN ('sessions', 'nonces')";
    database.sql(sql).unwrap().trim().parse().unwrap()
}

/// What a store reads from when it is opened until it is closed, with so many looks.
async fn read_by(database: &Database, looks: u64) -> u64 {
    let before = read(database);
    let store = Bench::open(database).await.store;
    for number in 1..=looks {
        assert!(store.commit(Look(number)).await.unwrap(), "{number}");
    }
    store.close().await.unwrap();
    read(database) - before
}

#[tokio::test]
async fn a_look_is_short_also_where_the_server_has_no_statistics() {
    let database = Database::new();
    Bench::open(&database).await.store.close().await.unwrap();
    let tables = "ALTER TABLE agentwrit.sessions SET (autovacuum_enabled = off); ALTER TABLE agentwrit.nonces SET (autovacuum_enabled = off)";
    database.sql(tables).unwrap();
    let (now, until) = (START, in_a_minute().start().get());
    let sessions = format!(
        "INSERT INTO agentwrit.sessions (sid, agent_id, orch_id, task_id, scope, jti, iat, exp, last_exp, kept_until, created_at, \
         barred, correlation_id) SELECT lpad(to_hex(n), 16, '0') || md5(n::text), \
         'spiffe://agentwrit.local/agent/o/t/' || lpad(to_hex(n), 16, '0'), 'o', 't', '[]', md5(n::text), {now}, {now} + 300, \
         {now} + 300, {now} + 100000, {now}::bigint * 1000, false, 'c' FROM generate_series(1, {ROWS}) AS n"
    );
    database.sql(&sessions).unwrap();
    let nonces = format!(
        "INSERT INTO agentwrit.nonces (nonce, until) SELECT 'other-' || n, {until} FROM generate_series(1, {ROWS}) AS n"
    );
    database.sql(&nonces).unwrap();
    let without = read_by(&database, 0).await;
    let with = read_by(&database, LOOKS).await;
    assert!(
        with <= without + LOOKS * A_LOOK,
        "{LOOKS} looks read {with} rows and index entries; the store by itself reads {without}"
    );
    // What is counted: a look that goes through a table shows.
    let before = read(&database);
    database
        .sql("SELECT count(*) FROM agentwrit.sessions WHERE scope = 'x'")
        .unwrap();
    assert!(read(&database) >= before + ROWS, "nothing was counted");
}
