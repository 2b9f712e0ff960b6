//! The trail.

use agentwrit_protocol::UnixSeconds;
use agentwrit_protocol::audit::{AuditEvent, EventType, GENESIS_HASH};
use agentwrit_store::EventDraft;
use agentwrit_testkit::{Answer, Harness, START};
use serde_json::{Value, json};

use super::chain::fill;

async fn page(harness: &Harness, query: &str) -> Answer {
    let admin = harness.admin().await;
    harness.get_as(&admin, &format!("/v1/audit/events?{query}")).await
}

#[tokio::test]
async fn the_chain_holds_from_the_first_event() {
    let harness = Harness::new().await;
    let (_, token) = harness.agent(json!({})).await;
    harness.renew(&token).await.ok();
    harness.get("/v1/audit/events").await;
    harness.register("nope", json!({})).await;
    let events = harness.events("").await;
    let mut before = GENESIS_HASH.to_owned();
    for (index, event) in events.iter().enumerate() {
        let event: AuditEvent = serde_json::from_value(event.clone()).unwrap();
        assert_eq!(event.id, format!("evt-{:06}", index + 1));
        assert_eq!((&event.prev_hash, &event.hash), (&before, &event.compute_hash()));
        assert!(
            event
                .extra
                .hash()
                .is_none_or(|hash| event.detail.ends_with(&format!(" ext_hash={hash}")))
        );
        before = event.hash;
    }
    assert_eq!(events.len(), 7);
}

#[tokio::test]
async fn filters_are_exact_and_combined() {
    let harness = Harness::new().await;
    let (agent, token) = harness.agent(json!({"task_id": "t1"})).await;
    harness.agent(json!({"task_id": "t2"})).await;
    harness.get("/v1/audit/events").await;
    harness.renew(&token).await.ok();
    let table = [
        (format!("agent_id={agent}"), 3),
        ("task_id=t2".to_owned(), 2),
        ("event_type=token_issued".to_owned(), 2),
        ("event_type=token_issued&task_id=t1".to_owned(), 1),
        ("outcome=denied".to_owned(), 1),
        ("error_kind=missing_authorization".to_owned(), 1),
        ("actor=seed".to_owned(), 0),
        (format!("actor={agent}"), 1),
        ("pod_uid=none".to_owned(), 0),
        ("event_type=nonsense".to_owned(), 0),
        ("task_id=&event_type=token_issued".to_owned(), 2),
    ];
    for (query, wanted) in table {
        let answer = page(&harness, &query).await.ok();
        assert_eq!(answer["total"], wanted, "{query}");
        assert_eq!(answer["events"].as_array().unwrap().len(), wanted, "{query}");
    }
}

#[tokio::test]
async fn pages_are_bounded_and_ordered() {
    let harness = Harness::new().await;
    for _ in 0..7 {
        harness.get("/v1/audit/events").await;
    }
    let answer = page(&harness, "event_type=token_auth_failed&limit=2&offset=5")
        .await
        .ok();
    assert_eq!(
        (&answer["total"], &answer["offset"], &answer["limit"]),
        (&json!(7), &json!(5), &json!(2))
    );
    let ids: Vec<&str> = answer["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["evt-000006", "evt-000007"]);
    let answer = page(&harness, "offset=1000&limit=5000").await.ok();
    assert_eq!((&answer["events"], &answer["limit"]), (&json!([]), &json!(1000)));
    assert_eq!(page(&harness, "").await.ok()["limit"], 100);
}

#[tokio::test]
async fn times_are_inclusive_at_both_ends() {
    let harness = Harness::new().await;
    let at = |seconds: i64| agentwrit_protocol::timestamp::rfc3339_seconds(UnixSeconds::new(START + seconds));
    for _ in 0..3 {
        harness.get("/v1/audit/events").await;
        // A query waits for the events before it; the clock moves after that.
        harness.events("").await;
        harness.clock.advance(10);
    }
    let count = async |query: String| {
        page(&harness, &format!("event_type=token_auth_failed&{query}"))
            .await
            .ok()["total"]
            .clone()
    };
    assert_eq!(count(format!("since={}", at(10))).await, 2);
    assert_eq!(count(format!("until={}", at(10))).await, 2);
    assert_eq!(count(format!("since={}&until={}", at(10), at(10))).await, 1);
    assert_eq!(count(format!("since={}", at(21))).await, 0);
}

#[tokio::test]
async fn values_that_make_no_sense_are_400() {
    let harness = Harness::new().await;
    let admin = harness.admin().await;
    for query in [
        "since=x",
        "until=2026",
        "limit=0",
        "limit=x",
        "offset=-1",
        "since=2026-01-01T00:00:00+01:00",
        "since=2026-01-01%2000:00:00Z",
        "until=2026-01-01t00:00:00Z",
        "until=2026-01-01T00:00:00z",
        "until=2026-12-31T23:59:60Z",
    ] {
        let answer = harness.get_as(&admin, &format!("/v1/audit/events?{query}")).await;
        answer.refused_like(400, "invalid_request", query.split('=').next().unwrap());
    }
}

#[tokio::test]
async fn a_cursor_walks_through_the_trail_while_it_grows() {
    let harness = Harness::new().await;
    let denied = "event_type=token_auth_failed";
    fill(&harness, 5, "t").await;
    let first = page(&harness, &format!("{denied}&limit=3&cursor=evt-000000"))
        .await
        .ok();
    let ids = |page: &Value| -> Vec<String> {
        let events = page["events"].as_array().unwrap();
        events
            .iter()
            .map(|event| event["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(&first).len(), 3);
    let next = first["next_cursor"].as_str().unwrap();
    assert_eq!(next, ids(&first)[2]);
    fill(&harness, 2, "t").await;
    let second = page(&harness, &format!("{denied}&limit=3&cursor={next}")).await.ok();
    let third = page(
        &harness,
        &format!("{denied}&limit=3&cursor={}", second["next_cursor"].as_str().unwrap()),
    )
    .await
    .ok();
    let all: Vec<String> = [&first, &second, &third].into_iter().flat_map(ids).collect();
    let whole: Vec<String> = harness
        .events(denied)
        .await
        .iter()
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!((all.len(), &all), (7, &whole));
    assert_eq!(
        (&third["total"], &third["offset"], &third["limit"]),
        (&json!(7), &json!(0), &json!(3))
    );
    let end = page(&harness, &format!("cursor={}", all[6])).await.ok();
    assert_eq!((&end["events"], &end["next_cursor"]), (&json!([]), &json!(all[6])));
    assert!(page(&harness, "").await.ok().get("next_cursor").is_none());
}

#[tokio::test]
async fn a_cursor_that_makes_no_sense_is_400() {
    let harness = Harness::new().await;
    for (query, part) in [
        ("cursor=7", "cursor \"7\" must be the id of an event"),
        ("cursor=evt-7", "cursor"),
        ("cursor=evt-000001&offset=0", "cursor and offset"),
    ] {
        page(&harness, query).await.refused_like(400, "invalid_request", part);
    }
    assert_eq!(page(&harness, "cursor=&offset=0").await.status, 200, "empty is absent");
    let beyond = page(&harness, "cursor=evt-999999").await.ok();
    assert_eq!(
        (&beyond["events"], &beyond["next_cursor"]),
        (&json!([]), &json!("evt-999999"))
    );
}

#[tokio::test]
async fn totals_and_pages_stay_right_while_the_trail_grows() {
    let harness = Harness::new().await;
    let check = async |task: &str, wanted: usize| {
        for offset in [0, 1, wanted.saturating_sub(2), wanted, wanted + 5] {
            let answer = page(&harness, &format!("task_id={task}&limit=3&offset={offset}"))
                .await
                .ok();
            assert_eq!(answer["total"], wanted, "{task} {offset}");
            let events = answer["events"].as_array().unwrap();
            assert_eq!(events.len(), wanted.saturating_sub(offset).min(3), "{task} {offset}");
            for (index, event) in events.iter().enumerate() {
                assert!(
                    event["detail"]
                        .as_str()
                        .unwrap()
                        .starts_with(&format!("event {}", (offset + index) % 1300)),
                    "{event}"
                );
            }
        }
    };
    check("dense", 0).await;
    fill(&harness, 1300, "dense").await;
    check("dense", 1300).await;
    check("none", 0).await;
    fill(&harness, 2, "sparse").await;
    check("sparse", 2).await;
    // More than is kept of one filter.
    fill(&harness, 1300, "dense").await;
    check("dense", 2600).await;
    check("sparse", 2).await;
    let answer = page(&harness, "task_id=dense&limit=1000&cursor=evt-002500").await.ok();
    assert_eq!(answer["total"], 2600);
    let last = harness.events("task_id=dense&offset=2599").await;
    assert_eq!(answer["events"].as_array().unwrap().last(), last.last());
}

#[tokio::test]
async fn events_are_served_with_the_escapes_of_every_other_body() {
    let harness = Harness::new().await;
    let draft = EventDraft::success(EventType::TokenAuthFailed, "a<b>&\u{2028}");
    assert!(harness.state.store.append(draft));
    let text = page(&harness, "event_type=token_auth_failed").await.text;
    assert!(text.contains(r"a\u003cb\u003e\u0026\u2028"), "{text}");
}

#[tokio::test]
async fn denials_of_strangers_are_audited_up_to_a_rate() {
    let harness = Harness::with(&[("AA_DENIAL_AUDIT_RATE", "3")]).await;
    for _ in 0..10 {
        harness.get("/v1/audit/events").await;
    }
    assert_eq!(harness.events("event_type=token_auth_failed").await.len(), 3);
    harness.state.denials.flush_suppressed();
    let last: Value = harness.last("token_auth_failed").await;
    assert_eq!(
        (
            last["detail"].as_str().unwrap().split(' ').next(),
            last["error_kind"].as_str()
        ),
        (Some("suppressed=7"), Some("suppressed"))
    );
    harness.state.denials.flush_suppressed();
    assert_eq!(
        harness.events("error_kind=suppressed").await.len(),
        1,
        "only when there is something to tell"
    );
}

#[tokio::test]
async fn suppressed_denials_are_audited_at_shutdown() {
    let harness = Harness::with(&[("AA_DENIAL_AUDIT_RATE", "1")]).await;
    for _ in 0..5 {
        harness.get("/v1/audit/events").await;
    }
    let harness = harness.restart(&[]).await;
    let told = harness.events("error_kind=suppressed").await;
    assert!(
        matches!(told.as_slice(), [event] if event["detail"].as_str().unwrap().starts_with("suppressed=4 ")),
        "{told:?}"
    );
}
