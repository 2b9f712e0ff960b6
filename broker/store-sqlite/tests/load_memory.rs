//! What a start takes of memory does not grow with what was revoked: rows go to the revocation view one by one.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use agentwrit_protocol::UnixSeconds;
use agentwrit_store::session::kept_until;
use agentwrit_store::testing::{START, surroundings};
use agentwrit_store::{RevocationListener, RevocationLoad, Store, Surroundings, ViewChange};
use agentwrit_store_sqlite::{OpenOptions, SqliteStore};
use parking_lot::Mutex;
use peak_alloc::PeakAlloc;
use rusqlite::Connection;

/// Without SQLite, whose cache has a bound of its own.
#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// Counts, and keeps nothing.
#[derive(Default)]
struct Counts(Mutex<usize>);

struct Load<'c> {
    counted: &'c Counts,
    changes: usize,
}

impl RevocationListener for Counts {
    fn load(&self, _: UnixSeconds) -> Box<dyn RevocationLoad + '_> {
        Box::new(Load {
            counted: self,
            changes: 0,
        })
    }

    fn changed(&self, _: Vec<ViewChange>) {}
}

impl RevocationLoad for Load<'_> {
    fn take(&mut self, _: ViewChange) {
        self.changes += 1;
    }

    fn done(self: Box<Self>) {
        *self.counted.0.lock() = self.changes;
    }
}

/// Opens a store and closes it: how many changes it told, and how many bytes that took at most.
async fn opened(folder: &Path) -> (usize, usize) {
    let counts = Arc::new(Counts::default());
    let (around, ..) = surroundings();
    let around = Surroundings {
        revocations: Arc::<Counts>::clone(&counts),
        ..around
    };
    let options = OpenOptions::in_folder(folder);
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    let store = Store::new(SqliteStore::open(options, around).await.unwrap());
    let peak = ALLOCATED.peak_usage() - before;
    store.close().await.unwrap();
    let told = *counts.0.lock();
    (told, peak)
}

/// Sessions that have ended and hold an index, some of them renewed, and agents that a person revoked.
fn fill(folder: &Path, count: i64) {
    let connection = Connection::open(folder.join("data.db")).unwrap();
    let numbers = "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?1)";
    let sessions = format!(
        "{numbers} INSERT INTO sessions (sid, agent_id, orch_id, task_id, scope, jti, iat, exp, last_exp, kept_until, \
         created_at, ended_at, end_reason, barred, correlation_id, status, prev_jti, prev_over) \
         SELECT printf('%032x', n), 'a', 'o', 't', '[]', printf('%032x', n), ?2, ?2 + 900, ?2 + 900, ?3, \
         ?2 * 1000, ?2 * 1000, 'released', 0, 'c', n, printf('%032x', n), 0 FROM number"
    );
    let revocations = format!(
        "{numbers} INSERT INTO revocations (level, target, until) \
         SELECT 'agent', printf('spiffe://agentwrit.local/agent/o/t/%016x', n), (?2 + 900) * 1000 FROM number"
    );
    for sql in [sessions, revocations] {
        let kept = kept_until(UnixSeconds::new(START + 900)).get();
        let mut statement = connection.prepare(&sql).unwrap();
        for (number, value) in (1..=statement.parameter_count()).zip([count, START, kept]) {
            statement.raw_bind_parameter(number, value).unwrap();
        }
        statement.raw_execute().unwrap();
    }
}

#[tokio::test]
async fn a_start_holds_no_second_copy_of_what_was_revoked() {
    const COUNT: i64 = 30_000;
    let folder = tempfile::tempdir().unwrap();
    opened(folder.path()).await;
    let (told, empty) = opened(folder.path()).await;
    assert_eq!(told, 0);
    fill(folder.path(), COUNT);
    let (told, filled) = opened(folder.path()).await;
    assert_eq!(i64::try_from(told), Ok(3 * COUNT), "ended, renewed, revoked");
    // Three bytes a row would be more.
    assert!(filled <= empty + 256 * 1024, "{filled} bytes, {empty} without rows");
}
