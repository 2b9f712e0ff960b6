//! `awrit audit events`.

use super::brokers::{FakeBroker, RealBroker};

#[test]
fn events_are_a_table_with_a_note_and_long_details_are_cut() {
    let broker = FakeBroker::plain(|call, _, _| {
        assert_eq!(
            call,
            "GET /v1/audit/events?outcome=denied&correlation_id=c-1&pod_uid=p-1&limit=2"
        );
        let hash = "0".repeat(64);
        let event = |id: &str, kind: &str, detail: &str| {
            format!(
                r#"{{"id":"{id}","timestamp":"2026-11-21T07:00:00Z","event_type":"{kind}","agent_id":"a","detail":"{detail}","outcome":"denied","pod_uid":"p-1","hash":"{hash}","prev_hash":"{hash}"}}"#
            )
        };
        let first = event("evt-000001", "attestation_denied", &"x".repeat(70));
        let second = event("evt-000002", "admin_auth_failed", "two\\nlines ext_hash=00ff");
        (
            200,
            format!(r#"{{"events":[{first},{second}],"total":9,"offset":0,"limit":2}}"#),
        )
    });
    let mut arguments = vec!["audit", "events", "--outcome", "denied", "--correlation-id", "c-1"];
    arguments.extend(["--pod-uid", "p-1", "--limit", "2", "--offset", "-5"]);
    let cut = format!("{}...", "x".repeat(57));
    let wanted = format!(
        "ID          TIMESTAMP             EVENT TYPE          AGENT ID  OUTCOME  DETAIL\n\
         evt-000001  2026-11-21T07:00:00Z  attestation_denied  a         denied   {cut}\n\
         evt-000002  2026-11-21T07:00:00Z  admin_auth_failed   a         denied   two lines\n"
    );
    let note = "Showing 2 of 9 events (offset=0, limit=2)\n";
    broker.awrit(&arguments).printed(&wanted, note);

    arguments.push("--json");
    let ended = broker.awrit(&arguments);
    let json = ended.json();
    assert_eq!(json["events"][0]["detail"], "x".repeat(70));
    assert_eq!(json["events"][1]["detail"], "two\nlines ext_hash=00ff");
    assert_eq!(json["events"][0]["pod_uid"], "p-1");
}

#[test]
fn every_filter_is_sent_and_limits_of_nothing_are_not() {
    let broker = FakeBroker::plain(|call, _, _| {
        let wanted = "GET /v1/audit/events?agent_id=a&task_id=b&event_type=c&since=d&until=e%2B01%3A00\
                      &error_kind=f&actor=g&source=%3A%3A1&policy_uid=i&offset=3";
        assert_eq!(call, wanted);
        (200, r#"{"events":[],"total":0,"offset":3,"limit":100}"#.to_owned())
    });
    let mut arguments = vec![
        "audit",
        "events",
        "--agent-id",
        "a",
        "--task-id",
        "b",
        "--event-type",
        "c",
    ];
    arguments.extend([
        "--since",
        "d",
        "--until",
        "e+01:00",
        "--error-kind",
        "f",
        "--actor",
        "g",
    ]);
    arguments.extend([
        "--source",
        "::1",
        "--policy-uid",
        "i",
        "--pod-uid",
        "",
        "--limit",
        "0",
        "--offset",
        "3",
    ]);
    broker.awrit(&arguments).printed(
        "ID  TIMESTAMP  EVENT TYPE  AGENT ID  OUTCOME  DETAIL\n",
        "Showing 0 of 0 events (offset=3, limit=100)\n",
    );
}

fn three_revocations() -> RealBroker {
    let broker = RealBroker::new();
    for target in ["one", "two", "three"] {
        assert_eq!(broker.awrit(&["revoke", "--level", "task", "--target", target]).code, 0);
    }
    broker
}

#[test]
fn a_real_trail_is_filtered_paged_and_complained_about() {
    let broker = three_revocations();
    let ended = broker.awrit(&[
        "audit",
        "events",
        "--event-type",
        "token_revoked",
        "--limit",
        "2",
        "--offset",
        "1",
    ]);
    assert_eq!(
        (ended.code, ended.err.as_str()),
        (0, "Showing 2 of 3 events (offset=1, limit=2)\n")
    );
    let agents: Vec<&str> = ended
        .out
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().nth(3).unwrap())
        .collect();
    assert_eq!(agents, ["two", "three"]);

    let json = broker
        .awrit(&["audit", "events", "--agent-id", "one", "--actor", "admin", "--json"])
        .json();
    assert_eq!(
        (&json["total"], &json["events"][0]["actor"]),
        (&1.into(), &"admin".into())
    );

    let ended = broker.awrit(&["audit", "events", "--since", "yesterday"]);
    assert!(
        ended.code == 1 && ended.err.starts_with("Error: HTTP 400: {") && ended.err.contains("RFC 3339"),
        "{ended:?}"
    );
}

#[test]
fn a_cursor_pages_through_what_is_there() {
    let broker = three_revocations();
    let mut cursor = "evt-000000".to_owned();
    let mut seen = Vec::new();
    for wanted in [2, 1, 0] {
        let mut arguments = vec![
            "audit",
            "events",
            "--event-type",
            "token_revoked",
            "--limit",
            "2",
            "--json",
        ];
        arguments.extend(["--cursor", &cursor]);
        let ended = broker.awrit(&arguments);
        let page = ended.json();
        let events = page["events"].as_array().unwrap();
        assert_eq!(events.len(), wanted, "{ended:?}");
        seen.extend(
            events
                .iter()
                .map(|event| event["agent_id"].as_str().unwrap().to_owned()),
        );
        cursor = page["next_cursor"].as_str().unwrap().to_owned();
        assert!(
            ended.err.ends_with(&format!("\nNext page: --cursor {cursor}\n")),
            "{ended:?}"
        );
    }
    assert_eq!(seen, ["one", "two", "three"]);
}
