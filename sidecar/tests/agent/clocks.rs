//! Clocks that jump.

use std::time::Duration;

use agentwrit_protocol::clock::Clock;
use agentwrit_protocol::{ErrorCode, Ttl, UnixSeconds};

use super::pod::{AWAY, Pod, denied, failure};
use agentwrit_sidecar::{BrokerRequest, Event, Found, Issued};

#[test]
fn a_suspended_machine_renews_as_soon_as_it_wakes() {
    let mut pod = Pod::holding("a", 3_600);
    pod.wall.advance(600);
    assert_eq!(pod.happens(Event::Tick), ["say ClockJumped", "renew a"]);
    assert_eq!(pod.renewed("b", 3_600), ["say Renewed", "write b"]);
}

#[test]
fn after_a_clock_jump_the_answer_decides_about_the_token() {
    // A corrected clock: the token lives on.
    let mut pod = Pod::holding("a", 300);
    pod.wall.advance(7_200);
    assert_eq!(pod.happens(Event::Tick), ["say ClockJumped", "renew a"]);
    assert!(pod.agent.is_ready());
    assert_eq!(pod.renewed("b", 300), ["say Renewed", "write b"]);
    // A suspend: it is over.
    let mut pod = Pod::holding("a", 300);
    pod.wall.advance(7_200);
    pod.happens(Event::Tick);
    assert_eq!(
        pod.not_renewed(denied(ErrorCode::Unauthorized)),
        ["say Refused", "remove", "say Dropped", "register"]
    );
    // Nobody to ask: the wall clock is believed.
    let mut pod = Pod::holding("a", 300);
    pod.wall.advance(7_200);
    pod.happens(Event::Tick);
    assert_eq!(
        pod.not_renewed(AWAY),
        ["say Trouble", "remove", "say Dropped", "register"]
    );
}

#[test]
fn a_clock_set_back_renews_and_lengthens_nothing() {
    let mut pod = Pod::holding("a", 300);
    pod.wall.advance(-7_200);
    assert_eq!(pod.happens(Event::Tick), ["say ClockJumped", "renew a"]);
    pod.not_renewed(AWAY);
    loop {
        let (wanted, _) = pod.next();
        match wanted[0].as_str() {
            "renew a" => drop(pod.not_renewed(AWAY)),
            "validate a" => drop(pod.happens(Event::Validated(Err(failure(BrokerRequest::Validate, AWAY))))),
            _ => break,
        }
    }
    assert_eq!(pod.mono.monotonic(), Duration::from_mins(5));
}

#[test]
fn a_life_without_end_and_clocks_far_off_do_no_harm() {
    let endless = |issued| Issued {
        exp: UnixSeconds::new(i64::MAX),
        life: Ttl::seconds(i64::MAX),
        ..issued
    };
    for wall in [0, 250_000_000_000] {
        let mut pod = Pod::new();
        pod.wall.set_wall(wall);
        let found = endless(pod.issued("old", 300));
        assert_eq!(pod.start(Found::Token(found)), ["say Found", "validate old"]);
        assert_eq!(pod.happens(Event::Validated(Ok(true))), ["register"]);
        let issued = endless(pod.issued("a", 300));
        assert_eq!(
            pod.happens(Event::Registered(Ok(issued))),
            ["say Registered", "write a"]
        );
        pod.written();
        assert_eq!(pod.next().0, ["validate a"]);
        assert!(pod.agent.is_ready());
    }
}
