//! The short form against the text that was sealed.

use agentwrit_protocol::audit::{EventType, ExtraFields, GENESIS_HASH};
use agentwrit_protocol::timestamp::rfc3339_nanos;
use agentwrit_store::FilterColumn;
use agentwrit_store::{EventFilter, EventPage};
use agentwrit_trail::{FilterCache, SealedEvent};
use proptest::prelude::*;
use time::OffsetDateTime;

use super::*;
use crate::audit::{events as audit, query as pages};
use crate::schema;

fn store() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    schema::migrate(&connection).unwrap();
    connection
}

/// Seals events and writes them, as a commit does.
fn append(connection: &Connection, events: Vec<AuditEvent>) {
    let mut prev_hash = GENESIS_HASH.to_owned();
    let mut sealed = Vec::new();
    for (sequence, mut event) in (1..).zip(events) {
        let at = 1_800_000_000_000_000_000 + sequence * 1_234_567;
        event.timestamp = rfc3339_nanos(OffsetDateTime::from_unix_timestamp_nanos(at.into()).unwrap());
        event.seal(sequence, &prev_hash);
        prev_hash.clone_from(&event.hash);
        let json = text(&event).unwrap();
        sealed.push(SealedEvent {
            sequence,
            at: UnixNanos::new(at),
            event,
            json,
        });
    }
    audit::insert(connection, &sealed).unwrap();
}

fn all_shortened(connection: &Connection, keep: i64) {
    while shorten(connection, keep).unwrap().0 > 0 {}
}

fn page(connection: &Connection, exact: Vec<(FilterColumn, String)>) -> (i64, String) {
    let filter = EventFilter {
        exact,
        limit: 1000,
        ..EventFilter::default()
    };
    let EventPage { events, total, .. } = pages::page(connection, &filter, &FilterCache::default()).unwrap();
    (total, events)
}

fn count(connection: &Connection, condition: &str) -> i64 {
    let sql = format!("SELECT COUNT(*) FROM {condition}");
    connection.query_row(&sql, [], |row| row.get(0)).unwrap()
}

fn event(texts: &[String], number: usize) -> AuditEvent {
    let next = |place: usize| texts[(number + place) % texts.len()].clone();
    let mut event = AuditEvent {
        event_type: EventType::ALL[number % EventType::ALL.len()].as_str().into(),
        outcome: if number.is_multiple_of(3) { "denied" } else { "success" }.into(),
        agent_id: next(0),
        task_id: next(1),
        orch_id: next(2),
        detail: next(3),
        resource: next(4),
        deleg_depth: i64::try_from(number % 4).unwrap(),
        deleg_chain_hash: next(5),
        ..AuditEvent::default()
    };
    event.extra = ExtraFields {
        actor: next(6),
        source: next(7),
        correlation_id: next(8),
        policy_uid: next(9),
        pod_uid: next(10),
        error_kind: next(11),
    };
    event
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn shortened_events_are_served_byte_for_byte(
        texts in proptest::collection::vec("|\\PC{0,40}|[<>&\"=\\x00-\\x20]{0,20}| ext_hash=[0-9a-f]{64}", 2..9),
        number in 1..40_usize,
        keep in 0..10_i64,
    ) {
        let connection = store();
        append(&connection, (0..number).map(|number| event(&texts, number)).collect());
        let filters = || {
            let by = |column: FilterColumn| texts.iter().map(move |text| vec![(column, text.clone())]);
            let some = FilterColumn::ALL.into_iter().flat_map(by).filter(|filter| !filter[0].1.is_empty());
            std::iter::once(Vec::new()).chain(some).collect::<Vec<_>>()
        };
        let ask = || filters().into_iter().map(|filter| page(&connection, filter)).collect::<Vec<_>>();
        let before = ask();
        all_shortened(&connection, keep);
        let short = usize::try_from(count(&connection, "audit_events WHERE json = ''")).unwrap();
        prop_assert_eq!(short, number.saturating_sub(usize::try_from(keep).unwrap()));
        prop_assert_eq!(ask(), before);
    }
}

/// Renewals of a pod's session, which are the most of a trail.
fn renewal(pod: usize, number: usize) -> AuditEvent {
    let uid = format!("3f0e8a52-6a0b-4f7e-9d2b-{pod:012x}");
    let agent = format!("spiffe://agents.example.org/agent/k8s.shop.orders/{uid}/{pod:016x}");
    let jti = |number: usize| format!("{pod:016x}{number:016x}");
    let mut event = AuditEvent {
        event_type: "token_renewed".into(),
        outcome: "success".into(),
        agent_id: agent.clone(),
        task_id: uid.clone(),
        orch_id: "k8s.shop.orders".into(),
        detail: format!("token {} renewed as {} for 300 s", jti(number), jti(number + 1)),
        ..AuditEvent::default()
    };
    event.extra = ExtraFields {
        actor: agent,
        source: "10.244.17.203".into(),
        correlation_id: format!("{pod:032x}"),
        policy_uid: "7b1c9d40-1111-4222-8333-444455556666".into(),
        pod_uid: uid,
        error_kind: String::new(),
    };
    event
}

#[test]
fn a_renewal_of_long_ago_takes_less_than_400_bytes() {
    const PODS: usize = 100;
    const RENEWALS: usize = 100;
    let connection = store();
    let pragma = |name: &str| -> i64 {
        connection
            .query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
            .unwrap()
    };
    let used = || (pragma("page_count") - pragma("freelist_count")) * pragma("page_size");
    let empty = used();
    append(
        &connection,
        (0..PODS * RENEWALS)
            .map(|number| renewal(number % PODS, number / PODS))
            .collect(),
    );
    let each = |bytes: i64| bytes / i64::try_from(PODS * RENEWALS).unwrap();
    let before = each(used() - empty);
    all_shortened(&connection, 0);
    let after = each(used() - empty);
    assert!(before > 1000 && after <= 400, "{before} bytes before, {after} after");
    assert_eq!(count(&connection, "audit_who"), i64::try_from(PODS).unwrap());
}

#[test]
fn an_event_that_was_changed_stays_as_it_is() {
    let connection = store();
    append(&connection, (0..5).map(|number| renewal(1, number)).collect());
    let change = "UPDATE audit_events SET json = replace(json, '300 s', '301 s ') WHERE seq = 3";
    connection.execute(change, []).unwrap();
    let change = "UPDATE audit_events SET json = 'no event' WHERE seq = 4";
    connection.execute(change, []).unwrap();
    all_shortened(&connection, 0);
    assert_eq!(count(&connection, "audit_events WHERE json = ''"), 4);
    let text: String = connection
        .query_row("SELECT json FROM audit_events WHERE seq = 4", [], |row| row.get(0))
        .unwrap();
    assert_eq!(text, "no event");
}

#[test]
fn shared_rows_go_with_the_events_that_need_them() {
    let connection = store();
    append(&connection, (0..20).map(|number| renewal(number / 4, number)).collect());
    all_shortened(&connection, 0);
    assert_eq!(count(&connection, "audit_who"), 5);
    connection
        .execute("DELETE FROM audit_events WHERE seq <= 10", [])
        .unwrap();
    for _ in 0..3 {
        shorten(&connection, 0).unwrap();
    }
    assert_eq!(
        count(&connection, "audit_who"),
        3,
        "one of them is of events on both sides"
    );
    let (total, events) = page(&connection, vec![(FilterColumn::PodUid, renewal(2, 0).extra.pod_uid)]);
    assert_eq!((total, events.matches("token_renewed").count()), (2, 2));
}

#[test]
fn pod_and_correlation_are_found_through_indexes() {
    let connection = store();
    for column in [FilterColumn::PodUid, FilterColumn::CorrelationId] {
        let condition = pages::condition(column);
        let sql = format!("EXPLAIN QUERY PLAN SELECT COUNT(*) FROM audit_events WHERE seq > ?{condition}");
        let mut statement = connection.prepare(&sql).unwrap();
        let mut rows = statement.raw_query();
        let mut plan = String::new();
        while let Some(row) = rows.next().unwrap() {
            plan.push_str(&row.get::<_, String>(3).unwrap());
            plan.push('\n');
        }
        assert!(plan.contains("USING INDEX audit_events_who"), "{plan}");
        assert!(
            plan.contains("USING INDEX audit_events_pod") || plan.contains("USING INDEX audit_events_correlation"),
            "{plan}"
        );
        assert!(!plan.contains("SCAN audit_"), "{plan}");
    }
}

#[test]
fn dropped_events_that_wait_to_be_swept_stay_as_they_are() {
    let connection = store();
    append(&connection, (0..9).map(|number| renewal(1, number)).collect());
    facts::write(&connection, MetaKey::AuditFirst, "6").unwrap();
    all_shortened(&connection, 0);
    assert_eq!(count(&connection, "audit_events WHERE json = '' AND seq >= 6"), 4);
    assert_eq!(count(&connection, "audit_events WHERE json = '' AND seq < 6"), 0);
}
