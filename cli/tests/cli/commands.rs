//! What all commands share: forms of output, order of checks, help.

use agentwrit_testkit::ADMIN_SECRET;

use super::brokers::{ADMIN_TOKEN, FakeBroker, RealBroker};
use super::support::awrit;

/// Every command that asks the broker as an admin, with what it requires.
const ADMIN_COMMANDS: [&[&str]; 8] = [
    &["app", "register", "--name", "order-desk", "--scopes", "read:data:*"],
    &["app", "list"],
    &["app", "get", "app-x-000000"],
    &["app", "update", "--id", "app-x-000000", "--token-ttl", "60"],
    &["app", "remove", "--id", "app-x-000000"],
    &["revoke", "--level", "task", "--target", "x"],
    &["audit", "events"],
    &["pod", "release", "x"],
];

#[test]
fn revoke_prints_a_table_or_json() {
    let broker = RealBroker::new();
    broker
        .awrit(&["revoke", "--level", "task", "--target", "pod-1"])
        .printed("REVOKED  LEVEL  TARGET  COUNT\ntrue     task   pod-1   1\n", "");
    let wanted = "{\n  \"revoked\": true,\n  \"level\": \"agent\",\n  \"target\": \"a b\",\n  \"count\": 1\n}\n";
    for json in [
        &["--json"][..],
        &["-o", "json"],
        &["--output=json"],
        &["--json", "-o", "table"],
    ] {
        let arguments = [json, &["revoke", "--level", "agent", "--target", "a b"]].concat();
        broker.awrit(&arguments).printed(wanted, "");
        let arguments = [&["revoke", "--level", "agent", "--target", "a b"], json].concat();
        broker.awrit(&arguments).printed(wanted, "");
    }
}

#[test]
fn revoke_shows_what_it_hit_and_warns_of_nothing() {
    const TABLE: &str = "REVOKED  LEVEL  TARGET  COUNT  SESSIONS_ENDED  PODS_QUARANTINED\n";
    const WARNING: &str = "Warning: the revocation is recorded, but it ended no session and quarantined no pod: check \
                           level and target (tokens of admins and apps have neither).\n";
    let broker = FakeBroker::plain(|_, _, body| {
        let (target, hit) = match body {
            r#"{"level":"task","target":"pod-1"}"# => ("pod-1", r#","sessions_ended":2,"pods_quarantined":1"#),
            r#"{"level":"task","target":"pod-2"}"# => ("pod-2", r#","sessions_ended":0,"pods_quarantined":1"#),
            r#"{"level":"task","target":"pod-3"}"# => ("pod-3", r#","sessions_ended":1,"pods_quarantined":0"#),
            r#"{"level":"task","target":"pod-4"}"# => ("pod-4", r#","sessions_ended":0,"pods_quarantined":0"#),
            _ => ("pod-5", ""),
        };
        let text = format!(r#"{{"revoked":true,"level":"task","target":"{target}","count":1{hit}}}"#);
        (200, text)
    });
    let revoke = |target: &str| broker.awrit(&["revoke", "--level", "task", "--target", target]);
    for (target, hit, warning) in [
        ("pod-1", "2               1", ""),
        ("pod-2", "0               1", ""),
        ("pod-3", "1               0", ""),
        ("pod-4", "0               0", WARNING),
    ] {
        let table = format!("{TABLE}true     task   {target}   1      {hit}\n");
        revoke(target).printed(&table, warning);
    }
    revoke("pod-5").printed("REVOKED  LEVEL  TARGET  COUNT\ntrue     task   pod-5   1\n", "");
    let json = broker.awrit(&["--json", "revoke", "--level", "task", "--target", "pod-4"]);
    let wanted = "{\n  \"revoked\": true,\n  \"level\": \"task\",\n  \"target\": \"pod-4\",\n  \"count\": 1,\n  \
                  \"sessions_ended\": 0,\n  \"pods_quarantined\": 0\n}\n";
    json.printed(wanted, WARNING);
}

#[test]
fn every_command_logs_in_again() {
    let broker = FakeBroker::plain(|call, bearer, body| {
        assert_eq!((call, bearer), ("POST /v1/revoke", ADMIN_TOKEN));
        assert_eq!(body, r#"{"level":"task","target":"pod-1"}"#);
        let text = r#"{"revoked":true,"level":"task","target":"pod-1","count":1}"#;
        (200, text.to_owned())
    });
    for _ in 0..2 {
        assert_eq!(
            broker.awrit(&["revoke", "--level", "task", "--target", "pod-1"]).code,
            0
        );
    }
    let one = ["POST /v1/admin/auth", "POST /v1/revoke"];
    assert_eq!(broker.calls(), [one, one].concat());
}

#[test]
fn missing_flags_come_before_a_missing_environment() {
    let table: [(&[&str], &str); 15] = [
        (&["app", "register"], "--name is required"),
        (&["app", "register", "--scopes", "a:b:c"], "--name is required"),
        (
            &["app", "register", "--name", "", "--scopes", "a:b:c"],
            "--name is required",
        ),
        (&["app", "register", "--name", "ab"], "--scopes is required"),
        (
            &["app", "register", "--name", "ab", "--scopes="],
            "--scopes is required",
        ),
        (&["app", "update", "--token-ttl", "60"], "--id is required"),
        (
            &["app", "update", "--id", "x"],
            "at least one of --scopes or --token-ttl is required",
        ),
        (
            &["app", "update", "--id", "x", "--scopes", ""],
            "at least one of --scopes or --token-ttl is required",
        ),
        (&["app", "remove"], "--id is required"),
        (&["revoke"], "--level and --target are required"),
        (&["revoke", "--level", "task"], "--level and --target are required"),
        (
            &["revoke", "--level", "", "--target", "x"],
            "--level and --target are required",
        ),
        (&["token", "release"], "--token is required"),
        (&["token", "validate", "--token", ""], "--token is required"),
        (&["app", "get", ".."], "ID \"..\" can't be an id"),
    ];
    for (arguments, message) in table {
        awrit(&[], arguments).failed(message);
    }
    let ended = awrit(&[], &["app", "get"]);
    assert!(
        ended.code == 1 && ended.err.starts_with("Error: ") && ended.err.contains("<ID>"),
        "{ended:?}"
    );
    let ended = awrit(&[], &["app", "get", "one", "two"]);
    assert!(ended.code == 1 && ended.err.contains("'two'"), "{ended:?}");
}

#[test]
fn a_missing_environment_is_named_url_first() {
    for arguments in ADMIN_COMMANDS {
        awrit(&[], arguments).failed("AACTL_BROKER_URL is not set");
        awrit(&[("AACTL_BROKER_URL", ""), ("AACTL_ADMIN_SECRET", "x")], arguments)
            .failed("AACTL_BROKER_URL is not set");
        awrit(&[("AACTL_BROKER_URL", "http://127.0.0.1:1")], arguments).failed("AACTL_ADMIN_SECRET is not set");
    }
    for command in ["release", "validate"] {
        awrit(&[], &["token", command, "--token", "x"]).failed("AACTL_BROKER_URL is not set");
    }
}

#[test]
fn unknown_flags_and_commands_are_one_error() {
    let table: [(&[&str], &str); 5] = [
        (&["revoke", "--nope"], "Error: unexpected argument '--nope'"),
        (&["frobnicate"], "Error: unrecognized subcommand 'frobnicate'"),
        (
            &["audit", "events", "--timeout", "0"],
            "Error: invalid value '0' for '--timeout",
        ),
        (
            &["audit", "events", "--limit", "many"],
            "Error: invalid value 'many' for '--limit",
        ),
        (
            &["audit", "events", "-o", "yaml"],
            "Error: invalid value 'yaml' for '--output",
        ),
    ];
    for (arguments, wanted) in table {
        let ended = awrit(&[], arguments);
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{ended:?}");
        assert!(ended.error().starts_with(wanted), "{ended:?}");
    }
}

#[test]
fn an_error_is_followed_by_the_usage_of_its_command() {
    let away = [
        ("AACTL_BROKER_URL", "http://127.0.0.1:1"),
        ("AACTL_ADMIN_SECRET", ADMIN_SECRET),
    ];
    let table: [(&[&str], &str); 7] = [
        (&["app", "get", "x"], "Usage: awrit app get [OPTIONS] <ID>"),
        (&["app", "get"], "Usage: awrit app get [OPTIONS] <ID>"),
        (&["--timeout", "5", "app", "list"], "Usage: awrit app list [OPTIONS]"),
        (
            &["audit", "events", "--limit", "many"],
            "Usage: awrit audit events [OPTIONS]",
        ),
        (&["app", "frobnicate"], "Usage: awrit app [OPTIONS] <COMMAND>"),
        (&["frobnicate"], "Usage: awrit [OPTIONS] <COMMAND>"),
        (&["revoke"], "Usage: awrit revoke [OPTIONS]"),
    ];
    for (arguments, usage) in table {
        let ended = awrit(&away, arguments);
        assert!(ended.error().starts_with("Error: "), "{ended:?}");
        assert_eq!(ended.err.lines().last(), Some(usage), "{ended:?}");
    }
}

#[test]
fn help_needs_nothing_and_shows_examples() {
    let environment = [("AACTL_ADMIN_SECRET", ADMIN_SECRET)];
    for arguments in ADMIN_COMMANDS {
        let words = arguments
            .iter()
            .take_while(|word| !word.starts_with('-') && !word.contains('x'));
        let arguments: Vec<&str> = words.copied().chain(["--help"]).collect();
        let ended = awrit(&environment, &arguments);
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{arguments:?}");
        assert!(
            ended.out.contains("Usage: awrit ") && ended.out.contains("Example"),
            "{}",
            ended.out
        );
        assert!(!ended.out.contains(ADMIN_SECRET), "{}", ended.out);
    }
    for group in [&[][..], &["app"], &["audit"], &["token"], &["pod"]] {
        let ended = awrit(&environment, group);
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{group:?}");
        assert!(ended.out.contains("Usage: awrit"), "{}", ended.out);
    }
    let ended = awrit(&[], &["--version"]);
    ended.printed(&format!("awrit {}\n", env!("CARGO_PKG_VERSION")), "");
}

#[test]
fn a_pod_is_released_by_its_uid() {
    let broker = FakeBroker::plain(|call, bearer, _| {
        assert_eq!(bearer, ADMIN_TOKEN);
        assert!(call.starts_with("POST /v1/k8s/pods/"), "{call}");
        let released = call == "POST /v1/k8s/pods/uid-1/release";
        (200, format!(r#"{{"released":{released}}}"#))
    });
    broker.awrit(&["pod", "release", "uid-1"]).printed(
        "POD_UID  RELEASED\nuid-1    true\n",
        "The pod may get a token again; its sidecar asks within a minute.\n",
    );
    broker.awrit(&["pod", "release", "../uid", "--json"]).printed(
        "{\n  \"released\": false\n}\n",
        "The pod wasn't quarantined: nothing to release.\n",
    );
    let escaped = "POST /v1/k8s/pods/..%2Fuid/release".to_owned();
    assert!(broker.calls().contains(&escaped));
}
