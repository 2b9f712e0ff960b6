//! Status indexes: whose they are, and when they are free again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agentwrit_protocol::status_list::{Bounds, StatusIndex, free_from};
use agentwrit_protocol::{Clock, SessionId, Ttl, UnixMillis, UnixSeconds};
use async_trait::async_trait;

use super::rows::session;
use super::{Bench, Opener};
use crate::testing::START;
use crate::{Command, Delegated, EndReason, Renewal, Result, Session, StoreError, SweepTask, Tx};

/// One list that is full after 64 draws.
const SMALL: Bounds = Bounds {
    entries: 64,
    at_least_free: 1,
    lists: 1,
};
const ALL: u64 = 64;
/// Of sessions that are opened at the start.
const LAST_EXP: UnixSeconds = UnixSeconds::new(START + 300);
/// The moment of a bit that counts whatever the clock says.
pub(super) const AT_ONCE: UnixMillis = UnixMillis::new(0);

/// Opens a session, and answers with it as it is then.
struct Open(Session);

#[async_trait]
impl Command for Open {
    type Outcome = Session;
    const OPENS: bool = true;

    async fn run(mut self, tx: &mut dyn Tx) -> Result<Session> {
        tx.insert_session(&mut self.0).await?;
        Ok(self.0)
    }
}

pub(super) fn root(number: u64) -> Session {
    session(&format!("{number:016x}{:016x}", 1), &format!("{number:016x}{:016x}", 2))
}

pub(super) fn below(number: u64, above: &Session) -> Session {
    let node = session(&format!("{number:016x}{:032x}", 3), &format!("{number:016x}{:016x}", 4));
    let (root, mut nodes) = match &above.delegated {
        Some(delegated) => (delegated.root.clone(), delegated.nodes.clone()),
        None => (above.sid.clone(), Vec::new()),
    };
    nodes.push(node.sid.clone());
    Session {
        delegated: Some(Delegated {
            root,
            nodes,
            ceiling: above.exp,
            holder_pod: None,
        }),
        ..node
    }
}

pub(super) async fn open(bench: &Bench, session: Session) -> Session {
    bench.store.commit(Open(session)).await.unwrap()
}

pub(super) fn index(session: &Session) -> StatusIndex {
    session.status.unwrap()
}

/// Opens so many sessions with 300 s to live, numbered from `first`; their indexes.
async fn fill(bench: &Bench, first: u64, count: u64) -> BTreeSet<StatusIndex> {
    let mut found = BTreeSet::new();
    let iat = bench.clock.unix_seconds();
    let exp = iat + Ttl::seconds(300);
    for number in first..first + count {
        let session = Session {
            iat,
            exp,
            last_exp: exp,
            ..root(number)
        };
        let opened = open(bench, session).await;
        assert!(found.insert(index(&opened)), "{number} has the index of another");
    }
    found
}

async fn is_full(bench: &Bench) -> bool {
    let refused = bench.store.commit(Open(root(u64::MAX))).await;
    matches!(refused, Err(StoreError::StatusListsFull))
}

/// Takes all indexes back that are free.
async fn sweep(bench: &Bench) {
    while bench.commit(|tx| tx.free_status_indexes()).await.unwrap() > 0 {}
}

async fn prune(bench: &Bench) {
    while bench.commit(|tx| tx.sweep(SweepTask::Sessions)).await.unwrap() > 0 {}
}

async fn renew(bench: &Bench, number: u64, exp: UnixSeconds) {
    let renewed = bench.commit(move |tx| {
        Box::pin(async move {
            let session = tx.session(&root(number).sid).await?.unwrap();
            let previous = Renewal {
                jti: session.jti.clone(),
                until: AT_ONCE,
                exp: session.exp,
                key: None,
            };
            let jti = format!("{number:016x}{:016x}", exp.get()).as_str().into();
            tx.renew_session(&session, &jti, session.iat, exp, &previous).await
        })
    });
    assert!(renewed.await.unwrap());
}

pub(super) async fn end(bench: &Bench, sid: &SessionId, reason: EndReason, after: Duration) -> bool {
    let sid = sid.clone();
    let ended = bench.commit(move |tx| {
        Box::pin(async move {
            let session = tx.session(&sid).await?.unwrap();
            tx.end_session(&session, reason, tx.now_millis() + after).await
        })
    });
    ended.await.unwrap()
}

pub(super) async fn bits(bench: &Bench) -> BTreeMap<StatusIndex, UnixMillis> {
    let bits = bench.store.query(|tx| tx.status_bits()).await.unwrap();
    bits.into_iter().map(|bit| (bit.index, bit.from)).collect()
}

/// And keeps it when it is renewed.
pub async fn each_session_has_a_status_index_of_its_own(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let mut found = fill(&bench, 0, 100).await;
    let above = root(7);
    for number in 100..110 {
        let node = open(&bench, below(number, &above)).await;
        assert!(found.insert(index(&node)), "{number}");
        let kept = bench
            .store
            .query(move |tx| Box::pin(async move { tx.session(&node.sid).await }));
        assert!(found.contains(&index(&kept.await.unwrap().unwrap())));
    }
    let status = || {
        bench
            .store
            .query(|tx| Box::pin(async move { tx.session(&root(7).sid).await }))
    };
    let before = status().await.unwrap().unwrap().status;
    renew(&bench, 7, LAST_EXP).await;
    assert_eq!(status().await.unwrap().unwrap().status, before);
    assert!(before.is_some());
    assert_eq!(bits(&bench).await, BTreeMap::new());
    assert_eq!(bench.recorder.status_indexes(), (1, 1_048_576 - 110));
}

/// As does its batch.
pub async fn a_command_that_fails_gives_its_indexes_back(opener: &dyn Opener) {
    let bench = Bench::open_with(opener, SMALL).await;
    for _ in 0..3 {
        let failed = bench.commit(|tx| {
            Box::pin(async move {
                for number in 0..40 {
                    tx.insert_session(&mut root(number)).await?;
                }
                Err::<(), _>(StoreError::Corrupt {
                    what: "test",
                    why: "on purpose".to_owned(),
                })
            })
        });
        assert!(matches!(failed.await, Err(StoreError::Corrupt { .. })));
    }
    fill(&bench, 0, ALL).await;
    assert!(is_full(&bench).await);
}

/// Those that wait with it are done, and nothing of it is.
pub async fn full_lists_refuse_what_opens_and_nothing_else(opener: &dyn Opener) {
    let bench = Bench::open_with(opener, SMALL).await;
    fill(&bench, 0, ALL).await;
    assert_eq!(bench.recorder.status_indexes(), (1, 0));
    let sid = root(3).sid;
    let (first, ended, second, ()) = tokio::join!(
        bench.store.commit(Open(root(1000))),
        end(&bench, &sid, EndReason::Released, Duration::ZERO),
        bench.store.commit(Open(below(1001, &root(1)))),
        renew(&bench, 4, LAST_EXP),
    );
    for refused in [first, second] {
        assert!(matches!(refused, Err(StoreError::StatusListsFull)), "{refused:?}");
    }
    assert!(ended);
    for sid in [root(1000).sid, below(1001, &root(1)).sid] {
        let found = bench
            .store
            .query(move |tx| Box::pin(async move { tx.session(&sid).await }));
        assert!(found.await.unwrap().is_none());
    }
    let unsaid = bench.commit(|tx| Box::pin(async move { tx.insert_session(&mut root(1002)).await }));
    assert!(
        matches!(unsaid.await, Err(StoreError::StatusListsFull)),
        "it can't be forgotten"
    );
    assert_eq!(bits(&bench).await.len(), 1);
}

/// And within two hours more, also those whose rows are gone by then.
pub async fn an_index_is_free_an_hour_after_the_last_token(opener: &dyn Opener) {
    let bench = Bench::open_with(opener, SMALL).await;
    let first = fill(&bench, 0, ALL).await;
    renew(&bench, 5, UnixSeconds::new(START + 400_000)).await;
    let kept = bench
        .store
        .query(|tx| Box::pin(async move { tx.session(&root(5).sid).await }));
    let kept = index(&kept.await.unwrap().unwrap());
    assert!(end(&bench, &root(6).sid, EndReason::Revoked, Duration::ZERO).await);
    let free = free_from(LAST_EXP);
    bench.clock.advance_millis(free.get() - START * 1000 - 1);
    sweep(&bench).await;
    assert!(is_full(&bench).await);
    bench.clock.advance_millis(1 + 2 * 3_600_000);
    sweep(&bench).await;
    assert_eq!(bits(&bench).await, BTreeMap::new());
    let mut again = fill(&bench, 100, ALL - 1).await;
    assert!(is_full(&bench).await);
    assert!(!again.contains(&kept), "its session was renewed");
    again.insert(kept);
    assert_eq!(again, first);
    assert_eq!(bits(&bench).await, BTreeMap::new(), "not those of the sessions before");

    // The rows go a day later, and nobody has asked for the indexes before.
    bench.clock.advance(2 * 86_400);
    prune(&bench).await;
    sweep(&bench).await;
    prune(&bench).await;
    let gone = bench
        .store
        .query(|tx| Box::pin(async move { tx.session(&root(100).sid).await }));
    assert!(gone.await.unwrap().is_none());
    fill(&bench, 200, ALL - 1).await;
    assert!(is_full(&bench).await);
}

/// A jump of one of them frees nothing.
pub async fn an_index_is_freed_by_the_earlier_of_both_clocks(opener: &dyn Opener) {
    const DAY: i64 = 86_400;
    let bench = Bench::open_with(opener, SMALL).await;
    fill(&bench, 0, ALL).await;
    bench.clock.jump(DAY);
    sweep(&bench).await;
    assert!(is_full(&bench).await, "the mark has not followed");
    bench.clock.jump(-2 * DAY);
    bench.clock.advance(DAY);
    sweep(&bench).await;
    assert!(is_full(&bench).await, "the wall clock is behind");
    bench.clock.jump(DAY);
    sweep(&bench).await;
    fill(&bench, 100, ALL).await;
}

/// No more and no less, with their bits.
pub async fn a_new_opening_holds_the_same_indexes(opener: &dyn Opener) {
    let bench = Bench::open_with(opener, SMALL).await;
    let before = fill(&bench, 0, ALL - 4).await;
    assert!(end(&bench, &root(9).sid, EndReason::Released, Duration::ZERO).await);
    let set = bits(&bench).await;
    bench.store.close().await.unwrap();
    let bench = Bench::open_with(opener, SMALL).await;
    assert_eq!(bench.recorder.status_indexes(), (1, 4));
    assert_eq!(bits(&bench).await, set);
    let after = fill(&bench, 100, 4).await;
    assert!(is_full(&bench).await && before.is_disjoint(&after));
    bench.store.close().await.unwrap();

    // Nor later than they would have been free without it.
    let bench = Bench::open_with(opener, SMALL).await;
    bench.clock.advance(300 + 3 * 3600 + 1);
    bench.store.close().await.unwrap();
    let bench = Bench::open_with(opener, SMALL).await;
    assert!(is_full(&bench).await);
    bench.clock.advance(300 + 3 * 3600 + 1);
    sweep(&bench).await;
    fill(&bench, 200, ALL).await;
}
