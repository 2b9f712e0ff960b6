//! Any history of events, exports and drops: the kept trail is whole.

use super::*;

/// What may happen to a trail.
#[derive(Debug, Clone)]
enum Happening {
    Append(usize),
    Hours(i64),
    /// All events but so many are kept short.
    Shorten(i64),
    Restart,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (1..6_usize).prop_map(Happening::Append),
        3 => (1..60_i64).prop_map(Happening::Hours),
        2 => (0..4_i64).prop_map(Happening::Shorten),
        1 => Just(Happening::Restart),
    ]
}

/// Appends events of two tasks, without a login, whose events would come in between.
async fn append(harness: &Harness, count: usize) {
    for number in 0..count {
        let task = if number % 2 == 0 { "even" } else { "odd" };
        let draft = EventDraft::success(EventType::TokenAuthFailed, "x").task(&task.into());
        assert!(harness.state.store.append(draft));
    }
    page(harness, EventFilter::default()).await;
}

/// Every page of every filter is the one of the events that are kept.
async fn pages_fit(harness: &Harness, rest: &[AuditEvent]) {
    let first = number(&rest[0]);
    for task in ["", "even", "odd", "neither"] {
        let of_task: Vec<&AuditEvent> = rest
            .iter()
            .filter(|event| task.is_empty() || event.task_id == task)
            .collect();
        for (cursor, offset) in [
            (None, 0),
            (None, 2),
            (None, 1000),
            (Some(0), 0),
            (Some(first - 1), 0),
            (Some(first + 3), 0),
        ] {
            let exact = if task.is_empty() {
                vec![]
            } else {
                vec![(FilterColumn::TaskId, task.to_owned())]
            };
            let filter = EventFilter {
                exact,
                cursor,
                offset,
                limit: 3,
                ..EventFilter::default()
            };
            let page = page(harness, filter).await;
            assert_eq!(page.total, i64::try_from(of_task.len()).unwrap());
            let wanted: Vec<&AuditEvent> = of_task
                .iter()
                .copied()
                .filter(|event| cursor.is_none_or(|cursor| number(event) > cursor))
                .skip(usize::try_from(offset).unwrap())
                .take(3)
                .collect();
            assert_eq!(
                events(&page).iter().collect::<Vec<_>>(),
                wanted,
                "{task:?} {cursor:?} {offset}"
            );
        }
    }
}

async fn what_is_kept_is_whole_after(history: &[Happening]) {
    let mut harness = Harness::with(DAYS).await;
    let keys = keys(&harness).await;
    // Every event that was ever seen, and its second.
    let mut seen: BTreeMap<i64, (AuditEvent, i64)> = BTreeMap::new();
    append(&harness, 1).await;
    for step in history {
        match step {
            Happening::Append(count) => append(&harness, *count).await,
            Happening::Hours(hours) => harness.clock.advance(hours * 3600),
            Happening::Shorten(keep) => housekeeping::shorten(&harness.state, *keep).await,
            Happening::Restart => harness = harness.restart(&[]).await,
        }
        // More than once: a drop seals what has grown too old in the meantime.
        for _ in 0..4 {
            housekeeping::prune(&harness.state).await;
            harness.state.retention.apply().await;
            harness.clock.advance(300);
        }
        let now = harness.clock.unix_seconds().get();
        let rest = kept(&harness).await;
        walk(&rest, &keys);
        for event in &rest {
            let before = seen
                .entry(number(event))
                .or_insert_with(|| (event.clone(), second(event)));
            assert_eq!(&before.0, event, "an event never changes");
        }
        let first = number(&rest[0]);
        for (_, at) in seen.range(..first).map(|(_, seen)| seen) {
            assert!(now - at > 2 * DAY, "an event went too early");
        }
        let told = dropped(&rest);
        if first > 1 {
            assert_eq!(told.last().unwrap().last + 1, first, "the trail says where it begins");
        }
        // A segment spans a day, and none goes in the first hour after a start; the checkpoint that it begins with may
        // have waited for its first event.
        let oldest = rest.iter().find(|event| event.event_type != "audit_checkpoint");
        assert!(
            oldest.is_none_or(|event| now - second(event) <= 3 * DAY + 2 * 3600),
            "an event stayed too long"
        );
        pages_fit(&harness, &rest).await;
    }
    let rest = kept(&harness).await;
    let held = stores::value(harness.folder.path(), "SELECT MIN(seq) FROM audit_events");
    assert_eq!(held, number(&rest[0]).to_string(), "rows are swept");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_kept_trail_is_whole_after_any_history(history in prop::collection::vec(happening(), 1..16)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(what_is_kept_is_whole_after(&history));
    }
}
