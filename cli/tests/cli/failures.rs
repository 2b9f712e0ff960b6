//! What goes wrong, in one sentence each.

use agentwrit_testkit::ADMIN_SECRET;
use std::net::TcpListener;

use super::brokers::{FakeBroker, RealBroker};
use super::support::{Ended, awrit};

fn events(url: &str, more: &[&str]) -> Ended {
    let environment = [("AACTL_BROKER_URL", url), ("AACTL_ADMIN_SECRET", ADMIN_SECRET)];
    awrit(&environment, &[&["audit", "events"], more].concat())
}

fn one_sentence(ended: &Ended, wanted: &str) {
    assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{ended:?}");
    assert!(ended.error().starts_with(wanted), "{ended:?}");
    assert_eq!(ended.error().lines().count(), 1, "{ended:?}");
}

#[test]
fn a_refused_login_shows_status_and_body() {
    let broker = RealBroker::new();
    let environment = [
        ("AACTL_BROKER_URL", broker.url.as_str()),
        ("AACTL_ADMIN_SECRET", "a-wrong-secret-altogether"),
    ];
    let ended = awrit(&environment, &["app", "list"]);
    one_sentence(
        &ended,
        "Error: auth failed (HTTP 401): {\"type\":\"urn:agentwrit:error:unauthorized\"",
    );
    assert!(
        ended.err.contains("invalid credentials") && !ended.err.contains("a-wrong"),
        "{ended:?}"
    );
}

#[test]
fn a_refused_request_shows_status_and_body() {
    let ended = RealBroker::new().awrit(&["revoke", "--level", "x", "--target", "y"]);
    one_sentence(
        &ended,
        "Error: HTTP 400: {\"type\":\"urn:agentwrit:error:invalid_request\"",
    );
    assert!(ended.err.contains("invalid revocation level: "), "{ended:?}");
}

#[test]
fn a_broker_that_cannot_serve_now_is_no_success() {
    let broker = FakeBroker::plain(|_, _, _| (503, r#"{"detail":"the store\u001b[2J is away"}"#.to_owned()));
    broker
        .awrit(&["revoke", "--level", "task", "--target", "y"])
        .failed(r#"HTTP 503: {"detail":"the store\u001b[2J is away"}"#);
    let broker = FakeBroker::plain(|_, _, _| (502, "bad\u{1b}[2J\ngateway\n".to_owned()));
    broker.awrit(&["app", "list"]).failed("HTTP 502: bad [2J gateway");
}

#[test]
fn a_broker_that_is_away_is_one_sentence() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    one_sentence(
        &events(&url, &[]),
        "Error: request failed: the broker can't be reached: ",
    );
    let ended = events(&url, &[]);
    assert!(
        ended.error().ends_with("; run awrit doctor to find the cause"),
        "{ended:?}"
    );
    // RFC 6761: .invalid has no addresses.
    let ended = events("https://broker.invalid", &["--ca-cert", "/nonexistent/ca.crt"]);
    one_sentence(
        &ended,
        "Error: request failed: the CA file /nonexistent/ca.crt can't be used: ",
    );
}

#[test]
fn a_broker_that_never_answers_meets_the_timeout() {
    // The system completes connections that nobody accepts.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    events(&url, &["--timeout", "1"])
        .failed("request failed: the broker didn't answer within 1000 ms; run awrit doctor to find the cause");
}

#[test]
fn something_else_than_a_broker_is_said_to_be_no_broker() {
    let broker = FakeBroker::plain(|_, _, _| (200, "<html>hello</html>".to_owned()));
    let ended = broker.awrit(&["app", "list"]);
    one_sentence(
        &ended,
        "Error: request failed: the broker's answer to GET /v1/admin/apps is malformed: ",
    );
}

#[test]
fn unusable_urls_are_shown_without_their_passwords() {
    for (url, wanted) in [
        ("broker:8443", "has no scheme; it must look like https://"),
        ("https://", "is not a URL"),
        ("https://admin:hunter2@broker", "holds user information"),
    ] {
        let ended = events(url, &[]);
        one_sentence(&ended, "Error: request failed: broker URL ");
        assert!(
            ended.err.contains(wanted) && !ended.err.contains("hunter2"),
            "{ended:?}"
        );
    }
}

#[test]
fn plain_http_to_another_host_is_warned_of_once() {
    let url = "http://broker.invalid:8080";
    let warned = events(url, &[]);
    let (warning, error) = warned.error().split_once('\n').unwrap();
    assert!(
        warning.starts_with("WARNING: plain HTTP to another host") && warning.contains("admin secret"),
        "{warned:?}"
    );
    assert!(warning.ends_with("use https://"), "{warned:?}");
    assert!(
        error.starts_with("Error: request failed: the broker can't be reached") && error.lines().count() == 1,
        "{warned:?}"
    );
    let silent = events(url, &["--insecure-http"]);
    assert_eq!(silent.error(), error);
    let environment = [
        ("AACTL_BROKER_URL", url),
        ("AACTL_ADMIN_SECRET", ADMIN_SECRET),
        ("AACTL_INSECURE_HTTP", "1"),
    ];
    assert_eq!(awrit(&environment, &["audit", "events"]), silent);
    let here = events("http://localhost:1", &[]);
    assert!(here.error().starts_with("Error: "), "{here:?}");
}
