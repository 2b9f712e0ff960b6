//! The command line as a process, against a broker of the test's own (contract §18).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod fake_broker;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use fake_broker::{ADMIN_TOKEN, FakeBroker, SECRET};

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    out: String,
    err: String,
}

fn awrit(environment: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_awrit"));
    command.env_clear().envs(environment.iter().copied()).args(arguments);
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn with(broker: &FakeBroker, arguments: &[&str]) -> Ended {
    let environment = [
        ("AACTL_BROKER_URL", broker.url.as_str()),
        ("AACTL_ADMIN_SECRET", SECRET),
    ];
    let ended = awrit(&environment, arguments);
    for text in [&ended.out, &ended.err] {
        assert!(!text.contains(SECRET) && !text.contains(ADMIN_TOKEN), "{ended:?}");
    }
    ended
}

fn nothing(call: &str, _: &str, _: &str) -> (u16, String) {
    panic!("nobody may ask {call}")
}

#[test]
fn revoke_prints_a_table_or_json() {
    let broker = FakeBroker::plain(|call, bearer, body| {
        assert_eq!((call, bearer), ("POST /v1/revoke", ADMIN_TOKEN));
        assert_eq!(body, r#"{"level":"task","target":"pod-1"}"#);
        (
            200,
            r#"{"revoked":true,"level":"task","target":"pod-1","count":1}"#.to_owned(),
        )
    });
    let ended = with(&broker, &["revoke", "--level", "task", "--target", "pod-1"]);
    assert_eq!(
        (ended.code, ended.out.as_str(), ended.err.as_str()),
        (0, "REVOKED  LEVEL  TARGET  COUNT\ntrue     task   pod-1   1\n", "")
    );
    let ended = with(&broker, &["--json", "revoke", "--level", "task", "--target", "pod-1"]);
    let wanted = "{\n  \"revoked\": true,\n  \"level\": \"task\",\n  \"target\": \"pod-1\",\n  \"count\": 1\n}\n";
    assert_eq!((ended.code, ended.out.as_str()), (0, wanted));
    assert_eq!(broker.calls().len(), 4, "each command logs in anew");
}

#[test]
fn missing_flags_come_before_a_missing_environment() {
    let table: [(&[&str], &str); 4] = [
        (&["revoke"], "--level and --target are required"),
        (&["revoke", "--level", "task"], "--level and --target are required"),
        (
            &["revoke", "--level", "", "--target", "x"],
            "--level and --target are required",
        ),
        (&["token", "release"], "--token is required"),
    ];
    for (arguments, message) in table {
        let ended = awrit(&[], arguments);
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{arguments:?}");
        assert!(ended.err.starts_with(&format!("Error: {message}\n")), "{}", ended.err);
        assert!(ended.err.contains("Usage: awrit "), "{}", ended.err);
        assert_eq!(ended.err.matches(message).count(), 1, "{}", ended.err);
    }
}

#[test]
fn a_missing_environment_is_named_url_first() {
    let revoke = ["revoke", "--level", "task", "--target", "x"];
    let events = ["audit", "events"];
    let pod = ["pod", "release", "x"];
    for arguments in [&revoke[..], &events[..], &pod[..]] {
        let ended = awrit(&[], arguments);
        assert_eq!(
            (ended.code, ended.err.as_str()),
            (1, "Error: AACTL_BROKER_URL is not set\n")
        );
        let ended = awrit(&[("AACTL_BROKER_URL", "http://127.0.0.1:1")], arguments);
        assert_eq!(
            (ended.code, ended.err.as_str()),
            (1, "Error: AACTL_ADMIN_SECRET is not set\n")
        );
    }
}

#[test]
fn a_refused_login_and_a_refused_request_show_status_and_body_once() {
    let broker = FakeBroker::plain(|_, _, _| (400, r#"{"detail":"invalid revocation level: x"}"#.to_owned()));
    let arguments = ["revoke", "--level", "x", "--target", "y"];
    let ended = with(&broker, &arguments);
    assert_eq!(
        (ended.code, ended.err.as_str()),
        (1, "Error: HTTP 400: {\"detail\":\"invalid revocation level: x\"}\n")
    );
    let environment = [
        ("AACTL_BROKER_URL", broker.url.as_str()),
        ("AACTL_ADMIN_SECRET", "wrong-secret"),
    ];
    let ended = awrit(&environment, &arguments);
    assert_eq!(ended.code, 1);
    assert!(
        ended.err.starts_with("Error: auth failed (HTTP 401): {"),
        "{}",
        ended.err
    );
    assert!(!ended.err.contains("wrong-secret"), "{}", ended.err);
}

#[test]
fn a_broker_that_is_away_is_one_sentence() {
    let environment = [
        ("AACTL_BROKER_URL", "http://127.0.0.1:1"),
        ("AACTL_ADMIN_SECRET", SECRET),
    ];
    let ended = awrit(&environment, &["audit", "events"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended
            .err
            .starts_with("Error: request failed: the broker can't be reached"),
        "{}",
        ended.err
    );
    assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
}

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
    let ended = with(&broker, &arguments);
    let cut = format!("{}...", "x".repeat(57));
    let wanted = format!(
        "ID          TIMESTAMP             EVENT TYPE          AGENT ID  OUTCOME  DETAIL\n\
         evt-000001  2026-11-21T07:00:00Z  attestation_denied  a         denied   {cut}\n\
         evt-000002  2026-11-21T07:00:00Z  admin_auth_failed   a         denied   two lines\n"
    );
    assert_eq!((ended.code, ended.out), (0, wanted));
    assert_eq!(ended.err, "Showing 2 of 9 events (offset=0, limit=2)\n");

    arguments.push("--json");
    let ended = with(&broker, &arguments);
    let json: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(json["events"][0]["detail"], "x".repeat(70));
    assert_eq!(json["events"][1]["detail"], "two\nlines ext_hash=00ff");
    assert_eq!(json["events"][0]["pod_uid"], "p-1");
}

#[test]
fn every_filter_of_the_contract_is_sent() {
    let broker = FakeBroker::plain(|call, _, _| {
        let wanted = "GET /v1/audit/events?agent_id=a&task_id=b&event_type=c&since=d&until=e&offset=3";
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
    arguments.extend(["--since", "d", "--until", "e", "--limit", "0", "--offset", "3"]);
    let ended = with(&broker, &arguments);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.out, "ID  TIMESTAMP  EVENT TYPE  AGENT ID  OUTCOME  DETAIL\n");
}

#[test]
fn releasing_a_token_twice_is_fine_and_needs_no_secret() {
    let broker = FakeBroker::plain(|call, bearer, _| {
        assert_eq!(call, "POST /v1/token/release");
        match bearer {
            "fresh-token" => (204, String::new()),
            "old-token" => (403, r#"{"detail":"token has been revoked"}"#.to_owned()),
            _ => (401, r#"{"detail":"token verification failed"}"#.to_owned()),
        }
    });
    let release = |token| {
        awrit(
            &[("AACTL_BROKER_URL", broker.url.as_str())],
            &["token", "release", "--token", token],
        )
    };
    let ended = release("fresh-token");
    assert_eq!((ended.code, ended.out.as_str()), (0, "Token released successfully.\n"));
    let ended = release("old-token");
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (0, "Token already released (revoked).\n")
    );
    let ended = release("bad-token");
    assert_eq!((ended.code, ended.out.as_str()), (1, ""));
    assert!(
        ended.err.starts_with("Error: HTTP 401: ") && !ended.err.contains("bad-token"),
        "{}",
        ended.err
    );
    assert!(!broker.calls().iter().any(|call| call.contains("admin")));
}

#[test]
fn a_token_to_release_need_not_stand_among_the_arguments() {
    let broker = FakeBroker::plain(|call, bearer, _| {
        assert_eq!((call, bearer), ("POST /v1/token/release", "fresh-token"));
        (204, String::new())
    });
    let release = |input: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_awrit"))
            .env_clear()
            .env("AACTL_BROKER_URL", &broker.url)
            .args(["token", "release", "--token", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let ended = release("fresh-token\n");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let ended = release("\n");
    assert_eq!(ended.status.code(), Some(1));
    let text = String::from_utf8(ended.stderr).unwrap();
    assert!(
        text.starts_with("Error: --token -: standard input is empty\n"),
        "{text}"
    );
}

#[test]
fn a_pod_is_released_by_its_uid() {
    let broker = FakeBroker::plain(|call, bearer, _| {
        assert_eq!(bearer, ADMIN_TOKEN);
        assert!(call.starts_with("POST /v1/k8s/pods/"), "{call}");
        let released = call == "POST /v1/k8s/pods/uid-1/release";
        (200, format!(r#"{{"released":{released}}}"#))
    });
    let ended = with(&broker, &["pod", "release", "uid-1"]);
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (0, "POD_UID  RELEASED\nuid-1    true\n")
    );
    assert!(ended.err.contains("within a minute"), "{}", ended.err);
    let ended = with(&broker, &["pod", "release", "../uid", "--json"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, "{\n  \"released\": false\n}\n"));
    assert!(
        broker
            .calls()
            .contains(&"POST /v1/k8s/pods/..%2Fuid/release".to_owned())
    );
}

#[test]
fn the_ca_comes_from_the_flag_or_the_environment() {
    let broker = FakeBroker::tls(|_, _, _| (200, r#"{"released":true}"#.to_owned()));
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.crt");
    std::fs::write(&ca, &broker.ca).unwrap();
    let ca = ca.to_str().unwrap();
    let ended = with(&broker, &["pod", "release", "x", "--ca-cert", ca]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let mut environment = vec![
        ("AACTL_BROKER_URL", broker.url.as_str()),
        ("AACTL_ADMIN_SECRET", SECRET),
    ];
    let ended = awrit(&environment, &["pod", "release", "x"]);
    assert_eq!(ended.code, 1, "a certificate of nobody's is refused: {ended:?}");
    environment.push(("AACTL_CA_CERT", ca));
    assert_eq!(awrit(&environment, &["pod", "release", "x"]).code, 0);
    let ended = with(&broker, &["pod", "release", "x", "--ca-cert", "/nonexistent/ca.crt"]);
    assert!(
        ended.code == 1 && ended.err.contains("/nonexistent/ca.crt"),
        "{ended:?}"
    );
}

#[test]
fn plain_http_to_another_host_is_refused_before_anything_is_sent() {
    let environment = [
        ("AACTL_BROKER_URL", "http://broker.example:8080"),
        ("AACTL_ADMIN_SECRET", SECRET),
    ];
    let ended = awrit(&environment, &["audit", "events"]);
    assert!(ended.code == 1 && ended.err.contains("in the clear"), "{ended:?}");
}

#[test]
fn unknown_flags_and_help() {
    let broker = FakeBroker::plain(nothing);
    let ended = with(&broker, &["revoke", "--nope"]);
    assert!(
        ended.code == 1 && ended.err.starts_with("Error: unexpected argument '--nope'"),
        "{ended:?}"
    );
    for arguments in [
        &["--help"][..],
        &["audit", "events", "--help"],
        &["pod", "release", "--help"],
    ] {
        let ended = with(&broker, arguments);
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{arguments:?}");
        assert!(ended.out.contains("Usage: awrit"), "{}", ended.out);
    }
    assert!(with(&broker, &["audit", "events", "--help"]).out.contains("Examples:"));
    assert!(with(&broker, &["--version"]).out.starts_with("awrit 0."));
    let ended = with(&broker, &["audit", "events", "--timeout", "0"]);
    assert!(ended.code == 1 && ended.err.contains("--timeout"), "{ended:?}");
}

fn mode_of(path: &std::path::Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn init_writes_a_private_file_with_a_fresh_secret() {
    let home = tempfile::tempdir().unwrap();
    let ended = awrit(&[("HOME", home.path().to_str().unwrap())], &["init"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let path = home.path().join(".broker/config");
    let secret = ended
        .out
        .lines()
        .find_map(|line| line.strip_prefix("Admin secret: "))
        .unwrap();
    assert_eq!(secret.len(), 43);
    assert!(
        ended
            .out
            .starts_with(&format!("Config written to: {}\n", path.display())),
        "{}",
        ended.out
    );
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("MODE=development\n") && text.contains(&format!("ADMIN_SECRET={secret}\n")),
        "{text}"
    );
    assert_eq!((mode_of(&path), mode_of(path.parent().unwrap())), (0o600, 0o700));
}

#[test]
fn init_for_production_stores_a_hash_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let path_text = path.to_str().unwrap();
    let ended = awrit(&[("AA_CONFIG_PATH", path_text)], &["init", "--mode", "prod", "--json"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let json: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let secret = json["admin_secret"].as_str().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("MODE=production\n") && !text.contains(secret), "{text}");
    let hash = text
        .lines()
        .find_map(|line| line.strip_prefix("ADMIN_SECRET="))
        .unwrap();
    assert!(hash.starts_with("$2b$12$") && hash.len() == 60, "{hash}");
    assert!(bcrypt::verify(secret, hash).unwrap());
}

#[test]
fn init_replaces_only_when_forced_and_never_through_a_symlink() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    std::fs::write(&path, "old").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let init = |path: &std::path::Path, more: &[&str]| {
        let mut arguments = vec!["init", "--config-path", path.to_str().unwrap()];
        arguments.extend(more);
        awrit(&[], &arguments)
    };
    let ended = init(&path, &[]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.err.contains("already exists") && ended.err.contains("--force"),
        "{}",
        ended.err
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");

    let ended = init(&path, &["--force"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.err.starts_with("WARNING") && ended.err.contains(path.to_str().unwrap()),
        "{}",
        ended.err
    );
    assert_eq!(mode_of(&path), 0o600);
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );

    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for more in [&[][..], &["--force"]] {
        let ended = init(&link, more);
        assert!(ended.code == 1 && ended.err.contains("symlink"), "{ended:?}");
    }
    let ended = init(&path, &["--mode", "test"]);
    assert!(
        ended.code == 1 && ended.err.contains("Error: invalid mode \"test\""),
        "{ended:?}"
    );
}
