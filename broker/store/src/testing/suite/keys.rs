//! Signing keys, and the epoch that a person begins.

use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::signing_keys::{Retirement, SigningKey};
use agentwrit_protocol::{Clock, UnixSeconds};

use super::rows::{after, session};
use super::{Bench, Opener};
use crate::{EventDraft, LaunchTokenHash};

/// A key is stored once, changes, and stays for ever.
pub async fn a_signing_key_is_published_once_and_changes(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let first = SigningKey::published("a", "xa", after(0), after(0));
    let second = SigningKey::published("b", "xb", after(1), after(600));
    let (one, other) = (first.clone(), second.clone());
    let inserted = bench
        .commit(|tx| {
            Box::pin(async move {
                let mut inserted = Vec::new();
                for key in [&one, &other, &one] {
                    inserted.push(tx.insert_signing_key(key).await?);
                }
                Ok(inserted)
            })
        })
        .await;
    assert_eq!(inserted.unwrap(), [true, true, false]);
    let changed = SigningKey {
        signs_from: after(5),
        retires_at: Some(after(900)),
        retirement: Some(Retirement {
            at: after(901),
            leaked: true,
        }),
        ..second
    };
    let change = changed.clone();
    let update = bench.commit(|tx| Box::pin(async move { tx.update_signing_key(&change).await }));
    update.await.unwrap();
    let stored = bench.store.query(|tx| tx.signing_keys()).await.unwrap();
    assert_eq!(stored, [first, changed], "in the order in which they were published");
}

/// What was issued last is known up to an hour, also after renewals.
pub async fn the_last_exp_of_all_sessions_is_known(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let none = bench.store.query(|tx| tx.last_session_exp()).await.unwrap();
    assert!(none <= UnixSeconds::default(), "{none}");
    let longest = after(86_400);
    let insert = bench.commit(move |tx| {
        Box::pin(async move {
            tx.insert_session(&mut session("0123456789abcdef0123456789abcdef", "0123456789abcdefj1"))
                .await?;
            let mut long = session("1123456789abcdef0123456789abcdef", "1123456789abcdefj1");
            (long.exp, long.last_exp) = (longest, longest);
            tx.insert_session(&mut long).await
        })
    });
    insert.await.unwrap();
    let last = bench.store.query(|tx| tx.last_session_exp()).await.unwrap();
    assert!((longest..=after(86_400 + 3600)).contains(&last), "{last}");
}

/// Sessions and launch tokens of before are over, the trail tells of it, and the listener hears `min_iat`.
pub async fn a_person_begins_an_epoch(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let before = bench.store.epoch();
    let insert = bench.commit(|tx| {
        Box::pin(async move {
            tx.insert_launch_token(&super::rows::launch_token("launch")).await?;
            tx.insert_session(&mut session("0123456789abcdef0123456789abcdef", "0123456789abcdefj1"))
                .await
        })
    });
    insert.await.unwrap();
    let event = EventDraft::success(EventType::EpochBegun, "a key has leaked").actor("admin");
    let mark = bench.store.begin_epoch(event).await.unwrap();
    assert_ne!(mark.epoch, before);
    assert_eq!(bench.store.epoch(), mark.epoch);
    assert!(bench.recorder.min_iat() > 0, "tokens of before are refused");
    assert!(bench.recorder.take_audited().contains(&"epoch_begun".to_owned()));
    let now = bench.clock.unix_millis();
    let left = bench.store.query(move |tx| {
        Box::pin(async move {
            let launch = tx.launch_token(&LaunchTokenHash::of("launch")).await?.unwrap();
            let session = tx.session(&"0123456789abcdef0123456789abcdef".into()).await?.unwrap();
            Ok((launch.expires_at, session.ended(now)))
        })
    });
    let (expires_at, ended) = left.await.unwrap();
    assert!(expires_at <= now, "launch tokens of before");
    assert!(ended.is_some(), "sessions of before");
    let known = mark.clone();
    let bench_after = bench.reopened(opener).await;
    assert_eq!(bench_after.store.epoch() == known.epoch, bench_after.store.persistent());
}
