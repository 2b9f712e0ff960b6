//! A store over time: wrong clocks, refusal, new openings, and copies.

use std::sync::Arc;

use agentwrit_protocol::StoreMark;
use agentwrit_protocol::audit::EventType;

use super::rows::launch_token;
use super::trail::{all, audit_events, verify};
use super::{Bench, Issue, Opener, TakeAway};
use crate::testing::{HashSigner, surroundings};
use crate::{LaunchTokenHash, MetaKey, Revocation, RevocationLevel, StoreError, ViewChange};

/// What takes authority away is done all the same.
pub async fn nothing_is_issued_while_the_clock_is_wrong(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    bench.store.commit(Issue).await.unwrap();
    bench.clock.jump(-3600);
    assert!(matches!(bench.store.commit(Issue).await, Err(StoreError::Clock)));
    bench.store.commit(TakeAway).await.unwrap();
}

/// And reads.
pub async fn a_store_that_refuses_still_takes_authority_away(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let write = || bench.commit(|tx| Box::pin(async move { tx.set_meta(MetaKey::LeaseEpoch, "1").await }));
    bench.store.refuse(true);
    assert!(bench.store.refuses());
    assert!(matches!(write().await, Err(StoreError::AuditFull)));
    bench.store.commit(TakeAway).await.unwrap();
    let read = bench
        .store
        .query(|tx| Box::pin(async move { Ok(tx.only_takes_authority()) }));
    assert!(read.await.unwrap());
    bench.store.refuse(false);
    write().await.unwrap();
}

/// Rows, revocations for the listener, the epoch, and the trail, which goes on.
pub async fn what_was_committed_is_there_after_a_new_opening(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    assert!(bench.store.persistent());
    let epoch = bench.store.epoch();
    audit_events(&bench, 3).await;
    let revocation = Revocation {
        level: RevocationLevel::Task,
        target: "t".to_owned(),
        until: None,
    };
    let wanted = ViewChange::Revoked(revocation.clone());
    let written = bench.commit(move |tx| {
        Box::pin(async move {
            tx.insert_launch_token(&launch_token("a")).await?;
            tx.add_revocation(&revocation).await
        })
    });
    written.await.unwrap();
    let bench = bench.reopened(opener).await;
    assert_eq!(bench.store.epoch(), epoch);
    assert_eq!(bench.recorder.take_changes(), [wanted]);
    assert_eq!(bench.store.event_count(), 3);
    let found = bench
        .store
        .query(|tx| Box::pin(async move { tx.launch_token(&LaunchTokenHash::of("a")).await }));
    assert!(found.await.unwrap().is_some());
    audit_events(&bench, 1).await;
    let found = all(&bench.store).await;
    verify(&found);
    assert_eq!(found.len(), 4);
}

/// It was put back from a copy that doesn't know of it: all tokens of before are refused.
pub async fn a_mark_of_an_unknown_epoch_makes_a_new_epoch(opener: &dyn Opener) {
    // A store that this very process made is no copy.
    let bench = Bench::open(opener).await.reopened(opener).await;
    let before = bench.store.epoch();
    let mark = StoreMark {
        epoch: "0f".repeat(16),
        sequence: 1,
        head: "a1".repeat(32),
    };
    let compared = bench.store.compare(Some(&mark.text())).await.unwrap();
    assert!(compared.restored);
    assert_ne!(compared.mark.epoch, before);
    assert_eq!(bench.store.epoch(), compared.mark.epoch);
    assert!(bench.recorder.min_iat() > 0);
    let told = all(&bench.store).await;
    assert_eq!(told.last().unwrap().event_type, EventType::StoreRestored.as_str());
    let again = bench.store.compare(Some(&mark.text())).await.unwrap();
    assert!(!again.restored, "it was taken note of");
}

/// Nor does one of where it stood earlier, or none.
pub async fn the_mark_of_where_it_stands_changes_nothing(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let first = bench.store.compare(None).await.unwrap();
    audit_events(&bench, 3).await;
    let second = bench.store.compare(Some(&first.mark.text())).await.unwrap();
    assert_eq!((second.restored, second.mark.sequence), (false, 3));
    let third = bench.store.compare(Some(&second.mark.text())).await.unwrap();
    assert_eq!((third.restored, third.mark), (false, second.mark));
}

/// With a checkpoint of the new key.
pub async fn a_chain_that_another_key_signed_goes_on(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    audit_events(&bench, 3).await;
    bench.store.close().await.unwrap();
    let (mut around, clock, recorder) = surroundings();
    around.signer = Arc::new(HashSigner("other"));
    let bench = Bench {
        store: opener.open(around).await,
        clock,
        recorder,
    };
    audit_events(&bench, 1).await;
    let types: Vec<_> = all(&bench.store)
        .await
        .into_iter()
        .map(|event| event.event_type)
        .collect();
    assert_eq!(types.len(), 5);
    assert!(types.iter().any(|name| name == EventType::AuditCheckpoint.as_str()));
}
