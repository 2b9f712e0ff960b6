//! `awrit audit export`, and files that were exported.

use super::*;

#[test]
fn an_export_verifies_offline_until_it_is_changed() {
    let broker = busy();
    let path = broker.folder.path().join("events.jsonl").display().to_string();
    let ended = broker.awrit(&["audit", "export", "--file", &path]);
    assert_eq!((ended.code, ended.out.as_str()), (0, ""), "{ended:?}");
    assert!(
        ended.err.starts_with("Exported ") && ended.err.ends_with(" events\n"),
        "{ended:?}"
    );
    let keys = jwks(&broker, broker.folder.path());
    let verify = ["audit", "verify", "--file", &path, "--jwks", &keys];
    let ended = awrit(&[], &verify);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
    assert!(ended.out.contains("VERDICT     intact\n"), "{ended:?}");
    let ended = awrit(&[], &verify[..4]);
    assert!(
        ended.code == 0 && ended.err.starts_with("WARNING: without --jwks"),
        "{ended:?}"
    );

    // What is on standard output is the same, and a file is never overwritten.
    let text = std::fs::read_to_string(&path).unwrap();
    let ended = broker.awrit(&["audit", "export"]);
    assert!(ended.code == 0 && ended.out.starts_with(&text), "{ended:?}");
    let again = broker.awrit(&["audit", "export", "--file", &path]);
    assert!(
        again
            .error()
            .ends_with("events.jsonl: it already exists, and an export replaces nothing"),
        "{again:?}"
    );

    assert!(text.contains("\"agent_id\":\"two\""), "{text}");
    std::fs::write(&path, text.replace("\"agent_id\":\"two\"", "\"agent_id\":\"six\"")).unwrap();
    let at = text.lines().position(|line| line.contains("\"two\"")).unwrap() + 1;
    broken(
        &awrit(&[], &verify),
        &format!("evt-{at:06}"),
        "its hash is not that of its content",
    );
}

#[test]
fn an_export_that_fails_leaves_no_file_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let export = ["audit", "export", "--file", path.to_str().unwrap()];
    let broker = FakeBroker::plain(|_, _, _| (503, r#"{"detail":"the store is away"}"#.to_owned()));
    let stranger = [
        ("AACTL_BROKER_URL", broker.url.as_str()),
        ("AACTL_ADMIN_SECRET", "not-the-secret-at-all"),
    ];
    for (ended, status) in [
        (awrit(&stranger, &export), "HTTP 401"),
        (broker.awrit(&export), "HTTP 503"),
    ] {
        assert!(ended.code == 1 && ended.err.contains(status), "{ended:?}");
        assert!(!path.exists(), "{status}");
    }
    std::fs::write(&path, "").unwrap();
    let ended = awrit(&[], &["audit", "verify", "--file", export[3]]);
    assert!(ended.code == 1 && ended.out.is_empty(), "{ended:?}");
    assert!(ended.error().ends_with("events.jsonl: it holds no event"), "{ended:?}");
}

#[test]
fn files_and_flags_that_make_no_sense_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events").display().to_string();
    std::fs::write(&events, "not json\n").unwrap();
    broken(
        &awrit(&[], &["audit", "verify", "--file", &events]),
        "evt-000001",
        "its text is no event",
    );
    let ended = awrit(&[], &["audit", "verify", "--file", &events, "--jwks", &events]);
    assert!(ended.code == 1 && ended.err.contains("it is no key set"), "{ended:?}");
    awrit(&[], &["audit", "verify", "--file", "/nonexistent"])
        .err
        .contains("/nonexistent: No such file")
        .then_some(())
        .unwrap();
    for (flag, value) in [("--expect-count", "0"), ("--expect-head", "abc")] {
        let ended = awrit(&[], &["audit", "verify", flag, value]);
        assert!(
            ended.code == 1 && ended.err.starts_with(&format!("Error: invalid value '{value}'")),
            "{ended:?}"
        );
    }
    awrit(&[], &["audit", "verify", "--from-checkpoint", "1000"])
        .failed("--from-checkpoint \"1000\" must be the id of an audit_checkpoint event, such as evt-001000");
    awrit(&[], &["audit", "verify"]).failed("AACTL_BROKER_URL is not set");
    awrit(&[], &["audit", "export"]).failed("AACTL_BROKER_URL is not set");
}
