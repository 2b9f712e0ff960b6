//! Any history: no two sessions whose tokens may live share an index, and the bits are those of what has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agentwrit_protocol::Times;
use agentwrit_protocol::status_list::{StatusIndex, free_from};
use agentwrit_store::{Delegated, EndReason, StoreError};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const BOUNDS: Bounds = Bounds {
    entries: 10,
    at_least_free: 3,
    lists: 2,
};
const HOUR: Ttl = Ttl::seconds(3600);
const OVERLAP: Duration = Duration::from_secs(10);

/// One thing that happens. Numbers choose among what is there.
#[derive(Debug, Clone)]
enum Op {
    Register(i64),
    Delegate(usize, i64),
    Renew(usize, i64),
    End(usize, bool),
    Pass(i64),
    Jump(i64),
    Sweep,
    /// A command that opens so many, and fails.
    Fail(usize),
    Reopen,
    /// The process dies: what is on the disk is all that is left.
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let (of, life) = (0_usize..1000, 1_i64..4000);
    prop_oneof![
        8 => life.clone().prop_map(Op::Register),
        4 => (of.clone(), life.clone()).prop_map(|(of, life)| Op::Delegate(of, life)),
        3 => (of.clone(), life).prop_map(|(of, life)| Op::Renew(of, life)),
        3 => (of, any::<bool>()).prop_map(|(of, superseded)| Op::End(of, superseded)),
        4 => (1_i64..8000).prop_map(Op::Pass),
        1 => (1_i64..30).prop_map(Op::Pass),
        1 => (-9000_i64..9000).prop_map(Op::Jump),
        4 => Just(Op::Sweep),
        1 => (1_usize..30).prop_map(Op::Fail),
        1 => Just(Op::Reopen),
        1 => Just(Op::Crash),
    ]
}

/// A session or delegation that was opened.
struct Row {
    session: Session,
    index: StatusIndex,
    last_exp: UnixSeconds,
    ended_at: Option<UnixMillis>,
    superseded: bool,
    set_at: Option<UnixMillis>,
    /// Whether the store can't hold its index any more.
    given_back: bool,
}

struct World {
    folder: TempDir,
    clock: Arc<ManualClock>,
    around: Around,
    rows: Vec<Row>,
    /// What both clocks had passed at any moment so far.
    passed: UnixMillis,
    opened: usize,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(START));
        Self {
            around: opened(folder.path(), &clock, BOUNDS, Declared::default()).await,
            folder,
            clock,
            rows: Vec::new(),
            passed: UnixMillis::MIN,
            opened: 0,
        }
    }

    fn times(&self) -> Times {
        self.around.judging.times()
    }

    /// Whether a row's current token may be used.
    fn stands(&self, row: &Row) -> bool {
        let judged = self.times().judged;
        row.last_exp.end() > judged && row.set_at.is_none_or(|set_at| set_at > judged)
    }

    async fn apply(&mut self, op: &Op) {
        self.passed = self.passed.max(self.times().passed());
        let now = self.clock.unix_seconds();
        match *op {
            Op::Register(life) => {
                self.opened += 1;
                let session = session(self.opened, now, now + Ttl::seconds(life));
                self.open(session, None).await;
            }
            Op::Delegate(of, life) => {
                let of = self.row(of).filter(|of| self.stands(&self.rows[*of]));
                let Some(parent) = of.map(|of| &self.rows[of]) else {
                    return;
                };
                self.opened += 1;
                let ceiling = parent.last_exp;
                let mut session = session(self.opened, now, ceiling.min(now + Ttl::seconds(life)));
                session.sid = format!("{}{:032x}", id_prefix(&session.sid), 1).as_str().into();
                let (root, mut nodes) = match &parent.session.delegated {
                    Some(above) => (above.root.clone(), above.nodes.clone()),
                    None => (parent.session.sid.clone(), Vec::new()),
                };
                nodes.push(session.sid.clone());
                session.delegated = Some(Delegated {
                    root,
                    nodes,
                    ceiling,
                    holder_pod: None,
                });
                let inherited = parent.set_at;
                self.open(session, inherited).await;
            }
            Op::Renew(of, life) => {
                let Some(of) = self.row(of).filter(|of| self.stands(&self.rows[*of])) else {
                    return;
                };
                let exp = now + Ttl::seconds(life);
                let renewed = self
                    .around
                    .store
                    .commit(Renew(self.rows[of].session.clone(), exp))
                    .await;
                match renewed {
                    Ok(renewed) => {
                        assert!(renewed);
                        self.rows[of].last_exp = self.rows[of].last_exp.max(exp);
                    }
                    Err(error) => assert!(matches!(error, StoreError::Clock), "{error}"),
                }
            }
            Op::End(of, superseded) => self.end(of, superseded).await,
            Op::Pass(seconds) => self.clock.advance(seconds),
            Op::Jump(seconds) => self.clock.jump(seconds),
            Op::Sweep => {
                while self.around.store.commit(Sweep).await.unwrap() != (0, 0) {}
                self.give_back();
            }
            Op::Fail(count) => {
                let failed = self.around.store.commit(Fail(count, now)).await;
                assert!(failed.is_err());
            }
            Op::Reopen | Op::Crash => self.reopen(matches!(op, Op::Crash)).await,
        }
        self.check().await;
    }

    fn row(&self, number: usize) -> Option<usize> {
        number.checked_rem(self.rows.len())
    }

    /// What is expired for two hours has given its index back at the latest.
    fn give_back(&mut self) {
        let passed = self.times().passed().second();
        for row in &mut self.rows {
            row.given_back |= row.last_exp + HOUR + HOUR <= passed;
        }
    }

    async fn open(&mut self, session: Session, set_at: Option<UnixMillis>) {
        match self.around.store.commit(Open(vec![session])).await {
            Ok(opened) => {
                let [session] = <[Session; 1]>::try_from(opened).unwrap();
                let index = session.status.unwrap();
                for row in self.rows.iter().filter(|row| row.index == index) {
                    assert!(
                        free_from(row.last_exp) <= self.passed,
                        "{index} is drawn again too early"
                    );
                }
                self.rows.push(Row {
                    last_exp: session.last_exp,
                    session,
                    index,
                    ended_at: None,
                    superseded: false,
                    set_at,
                    given_back: false,
                });
            }
            Err(StoreError::StatusListsFull) => {
                let held = self.rows.iter().filter(|row| !row.given_back).map(|row| row.index);
                let held = held.collect::<BTreeSet<_>>().len();
                assert!(held > 20 - 3, "refused while {held} of 20 are held");
            }
            Err(error) => assert!(matches!(error, StoreError::Clock), "{error}"),
        }
    }

    async fn end(&mut self, of: usize, superseded: bool) {
        let Some(of) = self.row(of) else { return };
        let Times { judged, .. } = self.times();
        let row = &self.rows[of];
        if row.last_exp.end() <= self.passed {
            // Its row may be gone.
            return;
        }
        let (overlap, reason) = if superseded {
            (OVERLAP, EndReason::Superseded)
        } else {
            (Duration::ZERO, EndReason::Revoked)
        };
        let sid = row.session.sid.clone();
        let ended = self.around.store.commit(End(sid, reason, overlap)).await.unwrap();
        let at = judged + overlap;
        let earlier = row.ended_at.is_none_or(|ended_at| row.superseded && ended_at > at);
        assert_eq!(ended, earlier);
        if !ended {
            return;
        }
        let set_at = if superseded { at } else { UnixMillis::new(0) };
        let sid = row.session.sid.clone();
        (self.rows[of].ended_at, self.rows[of].superseded) = (Some(at), superseded);
        for row in &mut self.rows {
            let above = row.session.delegated.as_ref();
            let is_below = above.is_some_and(|above| above.root == sid || above.nodes.contains(&sid));
            if is_below || row.session.sid == sid {
                row.set_at = Some(row.set_at.map_or(set_at, |before| before.min(set_at)));
            }
        }
    }

    async fn reopen(&mut self, crash: bool) {
        let before = self.around.store.clone();
        if crash {
            let copy = tempfile::tempdir().unwrap();
            for name in ["data.db", "data.db-wal", "data.db.mark"] {
                // The last one is made when authority was taken away, or after a second.
                if self.folder.path().join(name).exists() {
                    std::fs::copy(self.folder.path().join(name), copy.path().join(name)).unwrap();
                }
            }
            before.close().await.unwrap();
            self.folder = copy;
        } else {
            before.close().await.unwrap();
        }
        self.around = opened(self.folder.path(), &self.clock, BOUNDS, Declared::default()).await;
        for row in &mut self.rows {
            row.given_back = false;
        }
        self.give_back();
    }

    /// Of all whose tokens may live the store has the bits.
    async fn check(&self) {
        let now = self.times().passed();
        let bits: BTreeMap<_, _> = bits(&self.around.store)
            .await
            .into_iter()
            .map(|bit| (bit.index, bit.from))
            .collect();
        for row in self.rows.iter().filter(|row| row.last_exp.end() > now.max(self.passed)) {
            assert_eq!(bits.get(&row.index), row.set_at.as_ref(), "{}", row.session.sid);
        }
    }
}

/// Ends a session.
struct End(agentwrit_protocol::SessionId, EndReason, Duration);

#[async_trait]
impl Command for End {
    type Outcome = bool;

    async fn run(self, tx: &mut dyn Tx) -> Result<bool> {
        match tx.session(&self.0).await? {
            Some(session) => tx.end_session(&session, self.1, tx.now_millis() + self.2).await,
            None => Ok(false),
        }
    }
}

/// Opens so many sessions, and fails.
struct Fail(usize, UnixSeconds);

#[async_trait]
impl Command for Fail {
    type Outcome = ();

    async fn run(self, tx: &mut dyn Tx) -> Result<()> {
        for number in 0..self.0 {
            tx.insert_session(&mut session(1_000_000 + number, self.1, self.1))
                .await?;
        }
        tx.free_status_indexes().await?;
        Err(StoreError::Corrupt {
            what: "test",
            why: "on purpose".to_owned(),
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn no_index_has_two_holders_whose_tokens_may_live(ops in prop::collection::vec(op(), 1..150)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for op in &ops {
                world.apply(op).await;
            }
            world.around.store.close().await.unwrap();
        });
    }
}
