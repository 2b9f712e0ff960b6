//! Atomicity, order, and what is visible when.

use agentwrit_protocol::audit::EventType;

use super::rows::launch_token;
use super::{Bench, Opener};
use crate::{EventDraft, EventFilter, LaunchTokenHash, MetaKey, Revocation, RevocationLevel, StoreError, ViewChange};

/// Neither its rows nor its events.
pub async fn a_command_that_fails_changes_nothing(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let failed = bench.commit(|tx| {
        Box::pin(async move {
            tx.insert_launch_token(&launch_token("a")).await?;
            tx.audit(EventDraft::success(EventType::AdminAuth, "never"));
            Err::<(), _>(StoreError::Corrupt {
                what: "test",
                why: "on purpose".to_owned(),
            })
        })
    });
    let error = failed.await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { what: "test", .. }), "{error}");
    let found = bench
        .store
        .query(|tx| Box::pin(async move { tx.launch_token(&LaunchTokenHash::of("a")).await }));
    assert!(found.await.unwrap().is_none());
    assert_eq!(bench.store.event_count(), 0);
    let page = bench
        .store
        .events(EventFilter {
            limit: 10,
            ..EventFilter::default()
        })
        .await
        .unwrap();
    assert_eq!((page.events.as_str(), page.total), ("[]", 0));
    bench
        .commit(|tx| Box::pin(async move { tx.insert_launch_token(&launch_token("a")).await }))
        .await
        .unwrap();
}

/// And a read that begins then sees it.
pub async fn the_outcome_is_answered_after_the_commit(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    for number in 0..20 {
        let text = number.to_string();
        let written = text.clone();
        let outcome = bench.commit(move |tx| {
            Box::pin(async move {
                tx.set_meta(MetaKey::LeaseEpoch, &written).await?;
                Ok(number)
            })
        });
        assert_eq!(outcome.await.unwrap(), number);
        let read = bench
            .store
            .query(|tx| Box::pin(async move { tx.meta(MetaKey::LeaseEpoch).await }));
        assert_eq!(read.await.unwrap(), Some(text));
    }
}

/// Whether they share a transaction or not.
pub async fn of_parallel_commands_one_uses_a_token_up(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    bench
        .commit(|tx| Box::pin(async move { tx.insert_launch_token(&launch_token("a")).await }))
        .await
        .unwrap();
    let consume =
        || bench.commit(|tx| Box::pin(async move { tx.consume_launch_token(&LaunchTokenHash::of("a")).await }));
    let (a, b, c, d) = tokio::join!(consume(), consume(), consume(), consume());
    let winners = [a, b, c, d].into_iter().filter(|won| *won.as_ref().unwrap());
    assert_eq!(winners.count(), 1);
    let found = bench
        .store
        .query(|tx| Box::pin(async move { tx.launch_token(&LaunchTokenHash::of("a")).await }));
    assert!(found.await.unwrap().unwrap().consumed_at.is_some());
}

/// In the order of the commits.
pub async fn the_listener_hears_before_the_caller(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    for name in ["a", "b", "c"] {
        let revocation = Revocation {
            level: RevocationLevel::Task,
            target: name.to_owned(),
            until: None,
        };
        let wanted = ViewChange::Revoked(revocation.clone());
        bench
            .commit(move |tx| Box::pin(async move { tx.add_revocation(&revocation).await }))
            .await
            .unwrap();
        assert_eq!(bench.recorder.take_changes(), [wanted]);
    }
}

/// And answered.
pub async fn what_waits_is_committed_before_the_close(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let waiting = bench.commit(|tx| Box::pin(async move { tx.set_meta(MetaKey::LeaseEpoch, "1").await }));
    let (waiting, closed) = tokio::join!(waiting, bench.store.close());
    assert!(waiting.is_ok() && closed.is_ok());
}

/// Neither a command nor an event.
pub async fn nothing_is_taken_after_the_close(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    bench.store.close().await.unwrap();
    let late = bench.commit(|tx| Box::pin(async move { tx.set_meta(MetaKey::LeaseEpoch, "1").await }));
    assert!(matches!(late.await, Err(StoreError::NotOpen)));
    assert!(!bench.store.append(EventDraft::success(EventType::AdminAuth, "late")));
}
