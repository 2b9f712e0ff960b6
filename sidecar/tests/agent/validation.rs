//! Asking whether the token still stands.

use agentwrit_protocol::ErrorCode;
use agentwrit_protocol::clock::Clock;

use super::pod::{AWAY, Pod, denied, failure};
use agentwrit_sidecar::BrokerRequest;
use agentwrit_sidecar::Event;

#[test]
fn validation_comes_within_thirty_seconds_every_time() {
    let mut pod = Pod::holding("a", 3_600);
    for _ in 0..5 {
        let (wanted, seconds) = pod.next();
        assert_eq!(wanted, ["validate a"]);
        assert!((25..=30).contains(&seconds), "{seconds}");
        assert_eq!(pod.happens(Event::Validated(Ok(true))), [""; 0]);
    }
}

#[test]
fn a_token_is_validated_often_enough_to_notice_in_30_s() {
    let mut pod = Pod::holding("a", 86_400);
    for _ in 0..200 {
        let before = pod.mono.monotonic();
        assert_eq!(pod.next().0, ["validate a"]);
        let passed = pod.passed(before).as_millis();
        assert!((20_000..30_000).contains(&passed), "{passed} ms");
        pod.happens(Event::Validated(Ok(true)));
    }
}

#[test]
fn an_absent_broker_is_logged_once_by_validation() {
    let mut pod = Pod::holding("a", 3_600);
    pod.next();
    let away = || Event::Validated(Err(failure(BrokerRequest::Validate, AWAY)));
    assert_eq!(pod.happens(away()), ["say Trouble"]);
    pod.next();
    assert_eq!(pod.happens(away()), [""; 0]);
    pod.next();
    pod.happens(Event::Validated(Ok(true)));
    pod.next();
    assert_eq!(pod.happens(away()), ["say Trouble"]);
    assert!(pod.agent.is_ready());
}

#[test]
fn an_invalid_token_is_renewed_at_once_to_learn_the_reason() {
    for (code, wanted) in [
        (
            ErrorCode::Superseded,
            vec!["say Refused", "remove", "say Dropped", "register"],
        ),
        (
            ErrorCode::Unauthorized,
            vec!["say Refused", "remove", "say Dropped", "register"],
        ),
        (
            ErrorCode::NotFound,
            vec!["say Refused", "remove", "say Dropped", "register"],
        ),
        (
            ErrorCode::PolicyChanged,
            vec!["say Refused", "remove", "say Dropped", "register"],
        ),
        (ErrorCode::Revoked, vec!["remove", "say Dropped", "say Quarantined"]),
        (ErrorCode::Suspended, vec!["say Refused", "remove", "say Dropped"]),
        (
            ErrorCode::InsufficientScope,
            vec!["say Refused", "remove", "say Dropped"],
        ),
    ] {
        let mut pod = Pod::holding("a", 3_600);
        assert_eq!(pod.next().0, ["validate a"]);
        assert_eq!(
            pod.happens(Event::Validated(Ok(false))),
            ["say NoLongerValid", "renew a"],
            "{code}"
        );
        assert_eq!(pod.not_renewed(denied(code)), wanted, "{code}");
        assert!(!pod.agent.is_ready() && pod.agent.token().is_none(), "{code}");
    }
}
