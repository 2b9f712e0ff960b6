//! `awrit token`.

use super::brokers::RealBroker;
use super::support::{awrit, awrit_reading};

#[test]
fn releasing_a_token_twice_is_fine_and_needs_no_secret() {
    let broker = RealBroker::new();
    let token = broker.admin_token();
    let environment = [("AACTL_BROKER_URL", broker.url.as_str())];
    let release = |token: &str| awrit(&environment, &["token", "release", "--token", token]);
    release(token.expose()).printed("Token released successfully.\n", "");
    release(token.expose()).printed("Token already released (revoked).\n", "");
    let ended = release("bad-token");
    assert_eq!((ended.code, ended.out.as_str()), (1, ""));
    assert!(
        ended.err.starts_with("Error: HTTP 401: {") && ended.err.contains("token verification failed"),
        "{ended:?}"
    );
    assert!(!ended.err.contains("bad-token"), "{ended:?}");
}

#[test]
fn a_token_can_be_read_from_standard_input() {
    let broker = RealBroker::new();
    let environment = [("AACTL_BROKER_URL", broker.url.as_str())];
    let token = format!("{}\n", broker.admin_token().expose());
    let release = ["token", "release", "--token", "-"];
    awrit_reading(&token, &environment, &release).printed("Token released successfully.\n", "");
    awrit_reading("\n", &environment, &release).failed("--token -: standard input is empty");
}

#[test]
fn a_token_too_long_for_a_header_is_warned_of() {
    let broker = RealBroker::new();
    let environment = [("AACTL_BROKER_URL", broker.url.as_str())];
    for (length, warns) in [(8_168, false), (8_169, true)] {
        let ended = awrit(&environment, &["token", "validate", "--token", &"x".repeat(length)]);
        assert_eq!(ended.code, 1, "it isn't a token");
        assert_eq!(
            ended.err.contains("Warning: the header line"),
            warns,
            "{length}: {ended:?}"
        );
    }
}

#[test]
fn a_valid_token_shows_its_claims_and_another_fails() {
    let broker = RealBroker::new();
    let environment = [("AACTL_BROKER_URL", broker.url.as_str())];
    let token = broker.admin_token();
    let validate = |more: &[&str]| {
        let arguments = [&["token", "validate", "--token", token.expose()], more].concat();
        awrit(&environment, &arguments)
    };
    let ended = validate(&[]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
    assert!(
        ended.out.starts_with("FIELD  VALUE\nSUB    admin\nEXP    "),
        "{}",
        ended.out
    );
    let scopes = "SCOPE  admin:launch-tokens:*,admin:revoke:*,admin:audit:*\n";
    assert!(
        ended.out.contains(scopes) && !ended.out.contains("TASK_ID"),
        "{}",
        ended.out
    );
    assert_eq!(validate(&["--json"]).json()["claims"]["sub"], "admin");

    broker.ask(async |client| client.release(&token).await.unwrap());
    validate(&[]).failed("token is invalid or expired");
    let ended = validate(&["--json"]);
    let wanted = "{\n  \"valid\": false,\n  \"error\": \"token is invalid or expired\"\n}\n";
    assert_eq!((ended.code, ended.out.as_str()), (1, wanted));
}
