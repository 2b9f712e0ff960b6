//! The token that a new process finds in the volume.

use std::time::Duration;

use agentwrit_client::Class;
use agentwrit_protocol::ErrorCode;

use super::pod::{AWAY, Pod, denied};
use crate::agent::Found;

#[test]
fn a_restarted_process_renews_what_it_finds_and_is_not_ready_before() {
    let mut pod = Pod::new();
    let found = Found::Token(pod.issued("old", 200));
    assert_eq!(pod.start(found), ["say Found", "renew old"]);
    assert!(!pod.agent.is_ready(), "this process has written nothing yet");
    assert!(pod.agent.token().is_some(), "the endpoint has what the file has");
    assert_eq!(pod.renewed("new", 300), ["say Renewed", "write new"]);
    pod.written();
    assert!(pod.agent.is_ready());
}

#[test]
fn a_found_token_that_expired_or_is_none_is_removed_at_once() {
    let mut pod = Pod::new();
    let found = Found::Token(pod.issued("old", 200));
    pod.wall.advance(200);
    assert_eq!(pod.start(found), ["say FoundUseless", "remove", "register"]);
    assert_eq!(
        Pod::new().start(Found::Useless),
        ["say FoundUseless", "remove", "register"]
    );
}

#[test]
fn a_found_token_stays_while_the_broker_is_away_and_goes_when_it_refuses() {
    for class in [AWAY, Class::RateLimited(Some(Duration::from_secs(2)))] {
        let mut pod = Pod::new();
        let found = Found::Token(pod.issued("old", 200));
        pod.start(found);
        assert_eq!(pod.not_renewed(class), ["say Trouble"]);
        assert!(pod.agent.token().is_some());
        assert_eq!(pod.next().0, ["renew old"]);
    }
    for code in [ErrorCode::Unauthorized, ErrorCode::Superseded, ErrorCode::PolicyChanged] {
        let mut pod = Pod::new();
        let found = Found::Token(pod.issued("old", 200));
        pod.start(found);
        assert_eq!(
            pod.not_renewed(denied(code)),
            ["say Refused", "remove", "say Dropped", "register"],
            "{code}"
        );
    }
}

#[test]
fn a_dead_predecessor_is_not_taken_for_a_persons_decision() {
    let mut pod = Pod::new();
    let found = Found::Token(pod.issued("old", 200));
    pod.start(found);
    assert_eq!(
        pod.not_renewed(denied(ErrorCode::Revoked)),
        ["say Refused", "remove", "say Dropped", "register"]
    );
    // If it was one after all, the launch says so.
    assert_eq!(pod.not_registered(denied(ErrorCode::Revoked)), ["say Quarantined"]);

    let mut pod = Pod::holding("a", 300);
    pod.next_but_validation();
    pod.not_renewed(AWAY);
    assert_eq!(pod.next().0, ["renew a"]);
    let wanted = pod.not_renewed(denied(ErrorCode::Revoked));
    assert_eq!(
        wanted.last().unwrap(),
        "register",
        "an answer may have been lost: {wanted:?}"
    );
}
