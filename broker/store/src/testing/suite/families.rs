//! What is found of delegations, by what is above them.

use std::collections::BTreeSet;

use super::status::{below, open, root};
use super::{Bench, Opener};
use crate::{EndReason, Session};

fn sids(sessions: &[Session]) -> BTreeSet<&str> {
    sessions.iter().map(|session| session.sid.as_str()).collect()
}

/// By the task of the root, and each by what made it; whatever has ended above.
pub async fn delegations_stand_below_what_has_ended(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let first = open(&bench, root(1)).await;
    let below_first = open(&bench, below(2, &first)).await;
    let leaf = open(&bench, below(3, &below_first)).await;
    let other = Session {
        task_id: "other".into(),
        ..root(4)
    };
    let other = open(&bench, other).await;
    let others = Session {
        task_id: "other".into(),
        ..below(5, &other)
    };
    open(&bench, others).await;
    let (above, middle) = (first.clone(), below_first.clone());
    let found = async || {
        let (above, middle) = (above.clone(), middle.clone());
        let asked = bench.store.query(move |tx| {
            Box::pin(async move {
                Ok([
                    tx.standing_sessions_by_task(&"task".into()).await?,
                    tx.standing_delegations_of(&above).await?,
                    tx.standing_delegations_of(&middle).await?,
                ])
            })
        });
        asked.await.unwrap()
    };
    let end = async |session: &Session, reason| {
        let session = session.clone();
        let ended =
            bench.commit(move |tx| Box::pin(async move { tx.end_session(&session, reason, tx.now_millis()).await }));
        assert!(ended.await.unwrap());
    };
    let sid = |session: &Session| session.sid.to_string();
    let (one, two, three) = (sid(&first), sid(&below_first), sid(&leaf));
    for (ended, reason, task, of_first, of_middle) in [
        (
            None,
            EndReason::Released,
            vec![&one, &two, &three],
            vec![&two],
            vec![&three],
        ),
        (
            Some(&first),
            EndReason::Released,
            vec![&two, &three],
            vec![&two],
            vec![&three],
        ),
        (
            Some(&below_first),
            EndReason::Revoked,
            vec![&three],
            vec![],
            vec![&three],
        ),
        (Some(&leaf), EndReason::Revoked, vec![], vec![], vec![]),
    ] {
        if let Some(ended) = ended {
            end(ended, reason).await;
        }
        let found = found().await;
        let wanted = [task, of_first, of_middle].map(|sids| sids.into_iter().map(String::as_str).collect());
        assert_eq!(found.each_ref().map(|sessions| sids(sessions)), wanted);
    }
}
