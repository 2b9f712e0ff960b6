//! What a policy or a person has decided meanwhile.

use agentwrit_protocol::ErrorCode;

use super::pod::{AWAY, Pod, denied};
use agentwrit_sidecar::{Event, Found};

#[test]
fn a_changed_policy_leaves_no_gap_between_tokens() {
    let mut pod = Pod::holding("a", 300);
    pod.next_but_validation();
    assert_eq!(
        pod.not_renewed(denied(ErrorCode::PolicyChanged)),
        ["say Refused", "validate a"]
    );
    assert_eq!(pod.happens(Event::Validated(Ok(true))), ["register"]);
    assert!(pod.agent.is_ready());
    assert_eq!(pod.registered("b", 600), ["say Registered", "write b"]);
    pod.written();
    assert!(pod.agent.is_ready());
}

#[test]
fn a_refused_policy_change_ends_the_token_once_it_is_invalid() {
    let mut pod = Pod::holding("a", 300);
    pod.next_but_validation();
    pod.not_renewed(denied(ErrorCode::PolicyChanged));
    pod.happens(Event::Validated(Ok(true)));
    assert_eq!(
        pod.not_registered(denied(ErrorCode::ServiceAccountNotAllowed)),
        ["say Refused", "validate a"]
    );
    assert_eq!(pod.happens(Event::Validated(Ok(false))), ["remove", "say Dropped"]);
    assert!(!pod.agent.is_ready());
    assert_eq!(pod.next().0, ["register"]);
}

#[test]
fn a_pod_without_a_place_waits_ever_longer() {
    let mut pod = Pod::new();
    pod.start(Found::Nothing);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        assert_eq!(pod.not_registered(denied(ErrorCode::MaxActiveAgents)), ["say Refused"]);
        let (wanted, seconds) = pod.next();
        assert_eq!(wanted, ["register"]);
        pauses.push(seconds);
    }
    assert!(
        pauses[0] <= 5 && (30..=60).contains(pauses.last().unwrap()),
        "{pauses:?}"
    );
    assert_eq!(pod.registered("a", 300), ["say Registered", "write a"]);
}

#[test]
fn a_persons_revocation_lasts_until_it_is_lifted() {
    let mut pod = Pod::holding("a", 300);
    pod.next();
    pod.happens(Event::Validated(Ok(false)));
    pod.not_renewed(denied(ErrorCode::Revoked));
    for _ in 0..5 {
        let (wanted, seconds) = pod.next();
        assert_eq!(wanted, ["register"]);
        assert!((50..=60).contains(&seconds), "{seconds}");
        // Quietly: the state is the same.
        assert_eq!(pod.not_registered(denied(ErrorCode::Revoked)), [""; 0]);
        assert!(!pod.agent.is_ready());
    }
    let (_, seconds) = pod.next();
    assert!(seconds >= 50);
    assert_eq!(pod.not_registered(AWAY), ["say Trouble"]);
    let (wanted, seconds) = pod.next();
    assert!(seconds >= 50, "an absent broker doesn't make it hurry: {seconds}");
    assert_eq!(wanted, ["register"]);
    assert_eq!(pod.registered("b", 300), ["say Registered", "write b"]);
    pod.written();
    assert!(pod.agent.is_ready());
}
