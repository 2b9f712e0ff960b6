//! The token that a new process finds in the volume. Its key is gone: it is not renewed, and stays until there is another.

use std::time::Duration;

use agentwrit_client::Class;
use agentwrit_protocol::ErrorCode;
use agentwrit_protocol::clock::Clock;

use super::pod::{AWAY, Pod, denied, failure};
use agentwrit_sidecar::BrokerRequest;
use agentwrit_sidecar::{Event, Found};

/// A new process that has found the token `old`, good for 200 s, and asks about it.
fn found() -> Pod {
    let mut pod = Pod::new();
    let found = Found::Token(pod.issued("old", 200));
    assert_eq!(pod.start(found), ["say Found", "validate old"]);
    pod
}

fn stands(pod: &mut Pod, answer: bool) -> Vec<String> {
    pod.happens(Event::Validated(Ok(answer)))
}

#[test]
fn a_restarted_process_registers_and_replaces_the_file() {
    let mut pod = found();
    assert_eq!(stands(&mut pod, true), ["register"]);
    assert!(!pod.agent.is_ready(), "this process has written nothing yet");
    assert!(pod.agent.token().is_some(), "the endpoint has what the file has");
    assert_eq!(
        pod.registered("new", 300),
        ["say Registered", "write new"],
        "nothing is removed"
    );
    pod.written();
    assert!(pod.agent.is_ready());
    assert_eq!(pod.next_but_validation().0, ["renew new"]);
}

#[test]
fn a_found_token_that_is_invalid_is_removed_at_once() {
    let mut pod = found();
    assert_eq!(stands(&mut pod, false), ["remove", "say Dropped", "register"]);
    assert!(pod.agent.token().is_none());
}

#[test]
fn nobody_to_ask_about_it_is_no_reason_to_wait_or_remove() {
    let mut pod = found();
    let wanted = pod.happens(Event::Validated(Err(failure(BrokerRequest::Validate, AWAY))));
    assert_eq!(wanted, ["say Trouble", "register"]);
    assert!(pod.agent.token().is_some());
}

#[test]
fn a_found_token_that_expired_or_is_none_is_removed_at_once() {
    let mut pod = Pod::new();
    let found = Found::Token(pod.issued("old", 200));
    pod.wall.advance(200);
    assert_eq!(pod.start(found), ["say FoundInvalid", "remove", "register"]);
    assert_eq!(
        Pod::new().start(Found::Invalid),
        ["say FoundInvalid", "remove", "register"]
    );
}

#[test]
fn no_refusal_removes_a_found_token_before_it_expires() {
    for class in [
        AWAY,
        Class::RateLimited(Some(Duration::from_secs(2))),
        denied(ErrorCode::Unauthorized),
        denied(ErrorCode::Superseded),
        denied(ErrorCode::PolicyChanged),
        denied(ErrorCode::PolicyNotReady),
        denied(ErrorCode::Suspended),
        denied(ErrorCode::LaunchTokenNotFound),
        denied(ErrorCode::ServiceAccountNotAllowed),
        denied(ErrorCode::Forbidden),
        denied(ErrorCode::MaxActiveAgents),
    ] {
        let mut pod = found();
        let mut wanted = stands(&mut pod, true);
        let mut registrations = 0;
        while pod.agent.token().is_some() {
            wanted = match wanted.last().map(String::as_str) {
                Some("register") => {
                    registrations += 1;
                    pod.not_registered(class)
                }
                Some("validate old") => stands(&mut pod, true),
                _ => pod.next().0,
            };
        }
        assert_eq!(pod.mono.monotonic(), Duration::from_secs(200), "{class:?}");
        assert!(registrations > 3, "{class:?}: {registrations}");
        assert!(!pod.agent.is_ready());
    }
}

#[test]
fn a_found_token_is_replaced_when_the_broker_is_back_in_time() {
    let mut pod = found();
    let mut wanted = stands(&mut pod, true);
    // Away until two seconds before the end.
    while pod.mono.monotonic() < Duration::from_secs(198) {
        wanted = match wanted.last().map(String::as_str) {
            Some("register") => pod.not_registered(AWAY),
            Some("validate old") => pod.happens(Event::Validated(Err(failure(BrokerRequest::Validate, AWAY)))),
            _ => pod.next().0,
        };
    }
    while wanted != ["register"] {
        assert!(pod.agent.token().is_some(), "{wanted:?}");
        wanted = match wanted.last().map(String::as_str) {
            Some("validate old") => stands(&mut pod, true),
            _ => pod.next().0,
        };
    }
    assert!(pod.agent.token().is_some(), "there was no moment without a token");
}

#[test]
fn a_refused_registration_asks_about_the_found_token() {
    let mut pod = found();
    stands(&mut pod, true);
    assert_eq!(
        pod.not_registered(denied(ErrorCode::Suspended)),
        ["say Refused", "validate old"]
    );
    assert_eq!(stands(&mut pod, false), ["remove", "say Dropped"]);
    assert_eq!(pod.next().0, ["register"]);
}

/// The process before was killed after the broker had given it another token, and before that was in the file.
#[test]
fn a_superseded_found_token_is_gone_right_after_the_overlap() {
    for class in [AWAY, Class::Retry(Some(Duration::from_mins(1)))] {
        let mut pod = found();
        assert_eq!(stands(&mut pod, true), ["register"]);
        pod.not_registered(class);
        let mut wanted = pod.next().0;
        while wanted == ["register"] {
            pod.not_registered(class);
            wanted = pod.next().0;
        }
        assert_eq!(wanted, ["validate old"], "{class:?}");
        let passed = pod.mono.monotonic().as_millis();
        assert!((10_000..10_100).contains(&passed), "{class:?}: after {passed} ms");
        assert_eq!(stands(&mut pod, false)[..2], ["remove", "say Dropped"], "{class:?}");
    }
}

#[test]
fn a_found_token_is_asked_about_early_once() {
    let mut pod = found();
    assert_eq!(stands(&mut pod, true), ["register"]);
    let long = Class::Retry(Some(Duration::from_mins(5)));
    pod.not_registered(long);
    let mut pauses = Vec::new();
    for _ in 0..3 {
        let (wanted, pause) = pod.next();
        assert_eq!(wanted, ["validate old"]);
        stands(&mut pod, true);
        pauses.push(pause);
    }
    assert_eq!(pauses[0], 10);
    assert!(pauses[1..].iter().all(|pause| (24..=29).contains(pause)), "{pauses:?}");
}

#[test]
fn a_rate_limited_registration_asks_about_the_found_token() {
    let mut pod = found();
    stands(&mut pod, true);
    assert_eq!(
        pod.not_registered(Class::RateLimited(Some(Duration::from_mins(1)))),
        ["say Trouble", "validate old"]
    );
    assert_eq!(stands(&mut pod, false), ["remove", "say Dropped"]);
    assert_eq!(pod.next().0, ["register"]);
}

#[test]
fn a_persons_decision_removes_a_found_token() {
    let mut pod = found();
    stands(&mut pod, true);
    assert_eq!(
        pod.not_registered(denied(ErrorCode::Revoked)),
        ["remove", "say Dropped", "say Quarantined"]
    );
}

#[test]
fn a_found_token_is_given_back_when_the_process_is_stopped() {
    let mut pod = found();
    assert_eq!(pod.happens(Event::Stop), ["say Stopping", "release old"]);
}
