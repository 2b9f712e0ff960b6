//! The audit trail.

use std::net::IpAddr;

use agentwrit_protocol::audit::{AuditEvent, ChainWalker, EventType, MAX_UNSIGNED};

use super::{Bench, Opener};
use crate::testing::HashSigner;
use crate::{Asker, DenialDraft, EventDraft, EventFilter, EventPage, FilterColumn, Store};

/// All events, in order.
pub(super) async fn all(store: &Store) -> Vec<AuditEvent> {
    let filter = EventFilter {
        limit: 10_000,
        ..EventFilter::default()
    };
    events(&store.events(filter).await.unwrap())
}

fn events(page: &EventPage) -> Vec<AuditEvent> {
    serde_json::from_str(&page.events).unwrap()
}

/// Writes so many events; their details are numbers from 0.
pub(super) async fn audit_events(bench: &Bench, count: usize) {
    let written = bench.commit(move |tx| {
        Box::pin(async move {
            for number in 0..count {
                let draft = EventDraft::success(EventType::AdminAuth, number.to_string());
                tx.audit(draft.task(&if number % 2 == 0 { "even" } else { "odd" }.into()));
            }
            Ok(())
        })
    });
    written.await.unwrap();
}

pub(super) fn verify(events: &[AuditEvent]) {
    let mut walker = ChainWalker::from_start();
    for event in events {
        walker.feed(event, &HashSigner("test")).unwrap();
    }
    let done = walker.finish().unwrap();
    assert_eq!(usize::try_from(done.sequence), Ok(events.len()));
}

/// Without gaps, from the first number on, in the order of the commands.
pub async fn the_events_of_all_commands_are_one_chain(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    tokio::join!(
        audit_events(&bench, 3),
        audit_events(&bench, 3),
        audit_events(&bench, 3)
    );
    let found = all(&bench.store).await;
    verify(&found);
    let details: Vec<_> = found.iter().map(|event| event.detail.as_str()).collect();
    assert_eq!(details, ["0", "1", "2", "0", "1", "2", "0", "1", "2"]);
    assert_eq!(bench.store.event_count(), 9);
    assert_eq!(bench.recorder.take_audited().len(), 9);
}

/// Although nobody waited for its commit.
pub async fn a_page_holds_what_was_appended_before_it(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    for number in 0..50 {
        assert!(
            bench
                .store
                .append(EventDraft::success(EventType::AdminAuth, number.to_string()))
        );
        assert_eq!(all(&bench.store).await.len(), number + 1);
    }
}

/// By offset and by cursor, with the number of all matches.
pub async fn a_query_filters_and_pages(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    audit_events(&bench, 10).await;
    let filter = EventFilter {
        exact: vec![(FilterColumn::TaskId, "odd".to_owned())],
        limit: 2,
        ..EventFilter::default()
    };
    let details = |page: &EventPage| events(page).into_iter().map(|event| event.detail).collect::<Vec<_>>();
    let first = bench.store.events(filter.clone()).await.unwrap();
    assert_eq!(
        (details(&first), first.total, first.last),
        (vec!["1".to_owned(), "3".to_owned()], 5, Some(4))
    );
    let by_offset = EventFilter {
        offset: 2,
        ..filter.clone()
    };
    let by_cursor = EventFilter {
        cursor: first.last,
        ..filter.clone()
    };
    for next in [by_offset, by_cursor] {
        let page = bench.store.events(next).await.unwrap();
        assert_eq!((details(&page), page.total), (vec!["5".to_owned(), "7".to_owned()], 5));
    }
    let none = EventFilter {
        exact: vec![
            (FilterColumn::TaskId, "odd".to_owned()),
            (FilterColumn::Outcome, "denied".to_owned()),
        ],
        ..filter
    };
    let page = bench.store.events(none).await.unwrap();
    assert_eq!((page.events.as_str(), page.total, page.last), ("[]", 0, None));
}

/// It was only counted.
pub async fn a_denial_that_the_gate_refuses_is_not_in_the_trail(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    for (address, count) in [([192, 0, 2, 1], 0), ([192, 0, 2, 2], 1)] {
        let denied = bench.commit(move |tx| {
            Box::pin(async move {
                let denial = DenialDraft::denied(EventType::ScopeViolation, "no");
                tx.deny(Asker::Source(IpAddr::from(address)), denial);
                Ok(())
            })
        });
        denied.await.unwrap();
        assert_eq!(all(&bench.store).await.len(), count);
    }
}

/// Never more than so many events stand without a checkpoint.
pub async fn a_long_trail_is_signed_in_between(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let most = usize::try_from(MAX_UNSIGNED).unwrap();
    audit_events(&bench, most + 1).await;
    let found = all(&bench.store).await;
    verify(&found);
    assert_eq!(found.len(), most + 2);
    let checkpoints = found
        .iter()
        .filter(|event| event.event_type == EventType::AuditCheckpoint.as_str());
    assert_eq!(checkpoints.count(), 1);
}
