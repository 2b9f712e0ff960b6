//! `awrit keys`, and the trail across changes of keys.

use super::brokers::{FakeBroker, RealBroker};
use super::support::Ended;

const KEY: &str = r#"{"kid":"-abc","x":"x1","state":"previous","held":true,"published_at":"2026-11-21T07:00:00Z","signs_from":"2026-11-21T07:10:00Z","retires_at":"2026-11-22T07:00:00Z","leaked":false}"#;
const LEAKED: &str = r#"{"kid":"def","x":"x2","state":"retired","held":false,"published_at":"2026-11-21T07:00:00Z","signs_from":"2026-11-21T07:10:00Z","retired_at":"2026-11-23T07:00:00Z","leaked":true}"#;

fn with_folder() -> RealBroker {
    RealBroker::with(&[
        ("AA_SIGNING_KEY_PATH", "{folder}/keys/"),
        ("AA_KEY_PUBLISH_SECONDS", "0"),
    ])
}

/// Ids and states of a broker's keys.
fn keys(broker: &RealBroker) -> Vec<(String, String)> {
    let listed = broker.awrit(&["keys", "list", "--json"]).json();
    let text = |key: &serde_json::Value, name: &str| key[name].as_str().unwrap().to_owned();
    let keys = listed["keys"].as_array().unwrap().iter();
    keys.map(|key| (text(key, "kid"), text(key, "state"))).collect()
}

fn is_intact(ended: &Ended) {
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
    assert!(ended.out.contains("VERDICT     intact"), "{ended:?}");
}

#[test]
fn keys_are_listed_with_the_end_of_each() {
    let broker = FakeBroker::plain(|call, _, _| {
        assert_eq!(call, "GET /v1/admin/keys");
        (
            200,
            format!(r#"{{"keys":[{KEY},{LEAKED}],"rotation_requested_at":"2026-11-21T08:00:00Z"}}"#),
        )
    });
    broker.awrit(&["keys", "list"]).printed(
        "KID   STATE     HELD   PUBLISHED             SIGNS_FROM            RETIRES\n\
         -abc  previous  true   2026-11-21T07:00:00Z  2026-11-21T07:10:00Z  2026-11-22T07:00:00Z\n\
         def   retired   false  2026-11-21T07:00:00Z  2026-11-21T07:10:00Z  2026-11-23T07:00:00Z (leaked)\n",
        "Another key was asked for at 2026-11-21T08:00:00Z and isn't there yet.\n",
    );
}

#[test]
fn a_rotation_says_whether_the_key_is_there_already() {
    let broker = FakeBroker::plain(|call, _, _| {
        assert_eq!(call, "POST /v1/admin/keys/rotate");
        (202, r#"{"rotation_requested_at":"2026-11-21T08:00:00Z"}"#.to_owned())
    });
    broker.awrit(&["keys", "rotate"]).printed(
        "KID  STATE  HELD  PUBLISHED  SIGNS_FROM  RETIRES\n",
        "Another key was asked for at 2026-11-21T08:00:00Z; awrit keys list shows it when it is there.\n",
    );
    let broker = FakeBroker::plain(|_, _, _| (202, format!(r#"{{"next":{KEY}}}"#)));
    let ended = broker.awrit(&["keys", "rotate"]);
    assert_eq!(
        ended.err,
        "Key -abc is published; it signs from 2026-11-21T07:10:00Z on.\n"
    );
}

#[test]
fn a_key_whose_id_begins_with_a_hyphen_is_retired() {
    let broker = FakeBroker::plain(|call, _, body| {
        assert_eq!(call, "POST /v1/admin/keys/-abc/retire");
        assert_eq!(body, r#"{"now":true}"#);
        (
            200,
            r#"{"kid":"-abc","retired_at":"2026-11-21T08:00:00Z","leaked":true,"epoch":"e1"}"#.to_owned(),
        )
    });
    broker.awrit(&["keys", "retire", "-abc", "--now"]).printed(
        "KID   RETIRED_AT            LEAKED\n-abc  2026-11-21T08:00:00Z  true\n",
        "Every token of before is refused (epoch e1); agents register again by themselves.\n",
    );
    let real = with_folder();
    let ended = real.awrit(&["keys", "retire", "nope"]);
    assert!(ended.error().contains("there is no signing key"), "{ended:?}");
}

#[test]
fn the_trail_is_verified_across_changes_of_keys() {
    let broker = with_folder();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let first = broker.ask(async |client| client.jwks().await.unwrap());
    std::fs::write(path("first.json"), serde_json::to_string(&first).unwrap()).unwrap();
    for _ in 0..2 {
        assert_eq!(broker.awrit(&["keys", "rotate"]).err, "The new key signs already.\n");
        is_intact(&broker.awrit(&["audit", "verify"]));
    }
    let known = keys(&broker);
    assert_eq!(known.len(), 3);
    let (active, _) = known.iter().find(|(_, state)| state == "active").unwrap();
    let ended = broker.awrit(&["keys", "retire", active, "--now"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(keys(&broker).contains(&(active.clone(), "retired".to_owned())));
    is_intact(&broker.awrit(&["audit", "verify"]));
    // Without the broker, by the first key alone: the trail tells of those that came later.
    assert_eq!(
        broker.awrit(&["audit", "export", "--file", &path("events.jsonl")]).code,
        0
    );
    is_intact(&broker.awrit(&[
        "audit",
        "verify",
        "--file",
        &path("events.jsonl"),
        "--jwks",
        &path("first.json"),
    ]));
    // But not of one that nobody known has vouched for.
    let text = std::fs::read_to_string(path("events.jsonl")).unwrap();
    let published = text.lines().filter(|line| line.contains("\"key_published\"")).count();
    assert!(published >= 3, "{text}");
    std::fs::write(path("other.json"), r#"{"keys":[]}"#).unwrap();
    let ended = broker.awrit(&[
        "audit",
        "verify",
        "--file",
        &path("events.jsonl"),
        "--jwks",
        &path("other.json"),
    ]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("which isn't known"), "{ended:?}");
}
