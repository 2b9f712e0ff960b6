//! Status indexes on the embedded store: any history with crashes, rows of earlier schemas, clocks, many rows.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod model;

use std::path::Path;
use std::sync::Arc;

use agentwrit_protocol::clock::ManualClock;
use agentwrit_protocol::status_list::{Bounds, StatusBit};
use agentwrit_protocol::{Clock, JudgingClock, Ttl, UnixMillis, UnixSeconds};
use agentwrit_store::session::id_prefix;
use agentwrit_store::testing::{Recorder, START, surroundings};
use agentwrit_store::{Command, Renewal, Result, Session, Store, SweepTask, Tx};
use agentwrit_store_sqlite::{Declared, OpenOptions, SqliteStore};
use async_trait::async_trait;
use rusqlite::Connection;

/// An open store, and what is around it.
struct Around {
    store: Store,
    judging: Arc<JudgingClock>,
    recorder: Arc<Recorder>,
}

async fn opened(folder: &Path, clock: &Arc<ManualClock>, bounds: Bounds, declared: Declared) -> Around {
    let (mut around, _, recorder) = surroundings();
    around.clock = Arc::<ManualClock>::clone(clock);
    around.judging = Arc::new(JudgingClock::new(Arc::clone(&around.clock)));
    around.status_lists = bounds;
    let judging = Arc::clone(&around.judging);
    let options = OpenOptions {
        declared,
        ..OpenOptions::in_folder(folder)
    };
    Around {
        store: Store::new(SqliteStore::open(options, around).await.unwrap()),
        judging,
        recorder,
    }
}

fn session(number: usize, iat: UnixSeconds, exp: UnixSeconds) -> Session {
    let sid = format!("{number:016x}{:016x}", 1);
    Session {
        agent_id: format!("spiffe://agentwrit.local/agent/o/t/{}", id_prefix(&sid)),
        orch_id: "o".into(),
        task_id: "t".into(),
        scope: Vec::new(),
        jti: format!("{number:016x}{:016x}", 2).as_str().into(),
        iat,
        exp,
        last_exp: exp,
        previous: None,
        created_at: iat.start(),
        ended_at: None,
        end_reason: None,
        correlation_id: String::new(),
        attested: None,
        delegated: None,
        barred: false,
        status: None,
        sid: sid.as_str().into(),
    }
}

/// Opens sessions; with their indexes.
struct Open(Vec<Session>);

#[async_trait]
impl Command for Open {
    type Outcome = Vec<Session>;
    const ISSUES: bool = true;
    const OPENS: bool = true;

    async fn run(mut self, tx: &mut dyn Tx) -> Result<Vec<Session>> {
        for session in &mut self.0 {
            tx.insert_session(session).await?;
        }
        Ok(self.0)
    }
}

/// Renews a session until this second.
struct Renew(Session, UnixSeconds);

#[async_trait]
impl Command for Renew {
    type Outcome = bool;
    const ISSUES: bool = true;

    async fn run(self, tx: &mut dyn Tx) -> Result<bool> {
        let Some(session) = tx.session(&self.0.sid).await? else {
            return Ok(false);
        };
        let previous = Renewal {
            jti: session.jti.clone(),
            until: UnixMillis::new(0),
            exp: session.exp,
            key: None,
        };
        let jti = format!("{}{:016x}", id_prefix(&session.sid), self.1.get())
            .as_str()
            .into();
        let renewed = tx.renew_session(&session, &jti, tx.now_seconds(), self.1, &previous);
        renewed.await
    }
}

/// Takes indexes back, and removes rows: one step.
struct Sweep;

#[async_trait]
impl Command for Sweep {
    type Outcome = (u64, u64);

    async fn run(self, tx: &mut dyn Tx) -> Result<(u64, u64)> {
        Ok((tx.free_status_indexes().await?, tx.sweep(SweepTask::Sessions).await?))
    }
}

async fn bits(store: &Store) -> Vec<StatusBit> {
    store.query(|tx| tx.status_bits()).await.unwrap()
}

fn at(seconds: i64) -> UnixSeconds {
    UnixSeconds::new(START + seconds)
}

#[tokio::test]
async fn a_session_of_an_earlier_schema_gets_an_index_when_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let small = Bounds {
        entries: 2,
        at_least_free: 1,
        lists: 1,
    };
    let around = opened(folder.path(), &clock, small, Declared::default()).await;
    let sessions = (1..=2).map(|number| session(number, at(0), at(300)));
    around.store.commit(Open(sessions.collect())).await.unwrap();
    around.store.close().await.unwrap();
    let connection = Connection::open(folder.path().join("data.db")).unwrap();
    connection.execute("UPDATE sessions SET status = NULL", []).unwrap();
    let before = "INSERT INTO sessions SELECT id + 10, '0000000000000003' || substr(sid, 17), agent_id, orch_id, task_id, scope, jti, \
                  iat, exp, last_exp, kept_until, prev_jti, prev_until, prev_exp, renew_key, created_at, ended_at, end_reason, \
                  barred, correlation_id, policy_uid, pod_uid, attested, root, nodes, parent, ceiling, holder_pod, prev_over, \
                  NULL, NULL FROM sessions WHERE id = 1";
    connection.execute(before, []).unwrap();
    connection.close().unwrap();

    let around = opened(folder.path(), &clock, small, Declared::default()).await;
    assert_eq!(around.recorder.status_indexes(), (1, 2), "none of them holds one");
    let mut found = Vec::new();
    for number in 1..=3 {
        let renewed = session(number, at(0), at(300));
        assert!(around.store.commit(Renew(renewed.clone(), at(400))).await.unwrap());
        let sid = renewed.sid;
        let kept = around
            .store
            .query(move |tx| Box::pin(async move { tx.session(&sid).await }));
        found.push(kept.await.unwrap().unwrap().status);
    }
    assert!(found[0].is_some() && found[1].is_some() && found[0] != found[1]);
    assert_eq!(found[2], None, "the lists are full, and it is renewed all the same");
    assert_eq!(around.recorder.status_indexes(), (1, 0));
}

#[tokio::test]
async fn a_session_that_has_an_index_keeps_it_when_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let around = opened(folder.path(), &clock, Bounds::default(), Declared::default()).await;
    let opened = around
        .store
        .commit(Open(vec![session(1, at(0), at(300))]))
        .await
        .unwrap();
    let free = around.recorder.status_indexes();
    // As a caller says that hasn't read the row.
    let forgetful = Session {
        status: None,
        ..opened[0].clone()
    };
    assert!(around.store.commit(RenewAs(forgetful)).await.unwrap());
    assert_eq!(around.recorder.status_indexes(), free);
    let sid = opened[0].sid.clone();
    let kept = around
        .store
        .query(move |tx| Box::pin(async move { tx.session(&sid).await }));
    assert_eq!(kept.await.unwrap().unwrap().status, opened[0].status);
}

/// Renews a session as it is given.
struct RenewAs(Session);

#[async_trait]
impl Command for RenewAs {
    type Outcome = bool;

    async fn run(self, tx: &mut dyn Tx) -> Result<bool> {
        let previous = Renewal {
            jti: self.0.jti.clone(),
            until: UnixMillis::new(0),
            exp: self.0.exp,
            key: None,
        };
        let jti = format!("{}{:016x}", id_prefix(&self.0.sid), 9).as_str().into();
        tx.renew_session(&self.0, &jti, self.0.iat, self.0.exp, &previous).await
    }
}

#[tokio::test]
async fn many_indexes_are_freed_in_steps() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let around = opened(folder.path(), &clock, Bounds::default(), Declared::default()).await;
    for hour in 0..3 {
        let sessions =
            (0..900).map(|number| session(hour * 900 + number, at(0), at(i64::try_from(hour * 1200).unwrap())));
        around.store.commit(Open(sessions.collect())).await.unwrap();
    }
    let all = 1_048_576;
    assert_eq!(around.recorder.status_indexes(), (1, all - 2700));
    clock.advance(5 * 3600);
    let mut steps = Vec::new();
    loop {
        let (looked_at, _) = around.store.commit(Sweep).await.unwrap();
        if looked_at == 0 {
            break;
        }
        steps.push(looked_at);
    }
    assert_eq!(steps.iter().sum::<u64>(), 2700);
    assert!(steps.len() >= 3 && steps.iter().all(|step| *step <= 1000), "{steps:?}");
    assert_eq!(around.recorder.status_indexes(), (1, all));
    assert_eq!(around.store.commit(Sweep).await.unwrap().0, 0);
}

#[tokio::test]
async fn an_accepted_clock_sets_all_bits() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(START + 100_000));
    let around = opened(folder.path(), &clock, Bounds::default(), Declared::default()).await;
    let sessions = [(1, 0), (2, 100_000)].map(|(number, iat)| session(number, at(iat), at(iat + 300)));
    around.store.commit(Open(sessions.to_vec())).await.unwrap();
    around.store.close().await.unwrap();

    let clock = Arc::new(ManualClock::at(START));
    let declared = Declared {
        accept_clock: true,
        ..Declared::default()
    };
    let around = opened(folder.path(), &clock, Bounds::default(), declared).await;
    let set = bits(&around.store).await;
    assert_eq!(set.len(), 2);
    assert!(set.iter().all(|bit| bit.from == UnixMillis::new(0)), "{set:?}");
    // What is opened then stands.
    let now = clock.unix_seconds();
    let around_now = around
        .store
        .commit(Open(vec![session(3, now, now + Ttl::seconds(300))]));
    let opened = around_now.await.unwrap();
    assert!(
        bits(&around.store)
            .await
            .iter()
            .all(|bit| Some(bit.index) != opened[0].status)
    );
}
