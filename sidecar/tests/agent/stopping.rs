//! Being stopped.

use agentwrit_protocol::ErrorCode;
use agentwrit_protocol::clock::Clock;

use super::pod::{AWAY, Pod, denied, failure};
use agentwrit_sidecar::BrokerRequest;
use agentwrit_sidecar::{Event, Found};

#[test]
fn being_stopped_releases_removes_and_exits() {
    let mut pod = Pod::holding("a", 300);
    assert_eq!(pod.happens(Event::Stop), ["say Stopping", "release a"]);
    assert_eq!(pod.happens(Event::Released(Ok(()))), ["say Released", "remove", "exit"]);
    assert!(!pod.agent.is_ready());
}

#[test]
fn being_stopped_without_a_token_exits_at_once() {
    let mut pod = Pod::new();
    pod.start(Found::Nothing);
    pod.not_registered(AWAY);
    assert_eq!(pod.happens(Event::Stop), ["say Stopping", "remove", "exit"]);
}

#[test]
fn a_stop_during_registration_waits_and_releases_the_token() {
    let mut pod = Pod::new();
    pod.start(Found::Nothing);
    assert_eq!(pod.happens(Event::Stop), ["say Stopping"]);
    assert_eq!(pod.registered("a", 300), ["say Registered", "release a"]);
    assert_eq!(pod.happens(Event::Released(Ok(()))), ["say Released", "remove", "exit"]);

    let mut pod = Pod::new();
    pod.start(Found::Nothing);
    pod.happens(Event::Stop);
    let (wanted, seconds) = pod.next();
    assert_eq!((wanted, seconds), (vec!["remove".to_owned(), "exit".to_owned()], 3));
}

#[test]
fn being_stopped_never_spins() {
    let later = |pod: &Pod| pod.agent.deadline() > pod.mono.monotonic();
    let mut pod = Pod::new();
    pod.start(Found::Nothing);
    pod.happens(Event::Stop);
    pod.registered("a", 300);
    assert!(
        later(&pod),
        "a token that is never written has no time to be written at"
    );

    let mut pod = Pod::holding("a", 300);
    pod.wall.advance(40);
    pod.mono.advance(40);
    pod.happens(Event::Stop);
    pod.happens(Event::Released(Err(failure(BrokerRequest::Release, AWAY))));
    assert!(later(&pod), "nor is it validated");
}

#[test]
fn a_stop_while_the_broker_is_away_takes_at_most_8_s() {
    let mut pod = Pod::holding("a", 300);
    pod.happens(Event::Stop);
    let mut passed = 0;
    loop {
        let said = pod.happens(Event::Released(Err(failure(BrokerRequest::Release, AWAY))));
        if said.last().is_some_and(|last| last == "exit") {
            assert_eq!(said, ["say NotReleased", "remove", "exit"]);
            break;
        }
        let (wanted, seconds) = pod.next();
        assert_eq!(wanted, ["release a"]);
        passed += seconds;
    }
    assert!(passed <= 8, "{passed}");

    let mut pod = Pod::holding("a", 300);
    pod.happens(Event::Stop);
    let (wanted, seconds) = pod.next();
    assert_eq!((wanted, seconds), (vec!["remove".to_owned(), "exit".to_owned()], 8));
}

#[test]
fn a_release_that_is_refused_is_not_repeated() {
    let mut pod = Pod::holding("a", 300);
    pod.happens(Event::Stop);
    assert_eq!(
        pod.happens(Event::Released(Err(failure(
            BrokerRequest::Release,
            denied(ErrorCode::Revoked)
        )))),
        ["say NotReleased", "remove", "exit"]
    );
}
