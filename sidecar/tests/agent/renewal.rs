//! A token after the other, with the broker there or away.

use std::time::Duration;

use agentwrit_protocol::ErrorCode;
use agentwrit_protocol::clock::Clock;

use super::pod::{AWAY, Pod, denied, failure};
use agentwrit_sidecar::BrokerRequest;
use agentwrit_sidecar::{Action, Event, Now};

fn key_of(actions: &[Action]) -> String {
    let key = actions.iter().find_map(|action| match action {
        Action::Renew { idempotency_key, .. } => idempotency_key.clone(),
        _ => None,
    });
    key.unwrap()
}

#[test]
fn renewal_comes_at_eighty_per_cent_with_jitter_and_again() {
    let mut pod = Pod::holding("a", 300);
    let mut moments = Vec::new();
    for (old, new) in [("a", "b"), ("b", "c"), ("c", "d")] {
        let (wanted, seconds) = pod.next_but_validation();
        assert_eq!(wanted, [format!("renew {old}")]);
        assert!((225..=255).contains(&seconds), "{seconds}");
        moments.push(seconds);
        assert!(pod.agent.is_ready(), "the old one stands while the new one is fetched");
        assert_eq!(
            pod.renewed(new, 300),
            ["say Renewed".to_owned(), format!("write {new}")]
        );
        pod.written();
    }
    moments.dedup();
    assert!(moments.len() > 1, "no jitter: {moments:?}");
}

#[test]
fn the_shortest_life_still_has_a_renewal_in_time() {
    let mut pod = Pod::holding("a", 10);
    let (wanted, seconds) = pod.next();
    assert_eq!(wanted, ["renew a"]);
    assert!((7..=9).contains(&seconds), "{seconds}");
    assert_eq!(pod.after(1), [""; 0]);
    assert_eq!(pod.renewed("b", 10), ["say Renewed", "write b"]);
}

#[test]
fn a_token_outlives_an_absent_broker_until_it_expires() {
    let mut pod = Pod::holding("a", 300);
    pod.next_but_validation();
    let mut tries = 1;
    loop {
        let said = pod.not_renewed(AWAY);
        assert_eq!(said, ["say Trouble"]);
        assert!(pod.agent.is_ready());
        let (wanted, _) = pod.next();
        if wanted[0] == "remove" {
            assert_eq!(wanted, ["remove", "say Dropped", "register"]);
            break;
        }
        if wanted == ["validate a"] {
            pod.happens(Event::Validated(Err(failure(BrokerRequest::Validate, AWAY))));
            let (wanted, _) = pod.next();
            assert_eq!(wanted, ["renew a"]);
            continue;
        }
        assert_eq!(wanted, ["renew a"]);
        tries += 1;
    }
    assert_eq!(pod.mono.monotonic(), Duration::from_mins(5));
    assert!(tries > 4, "{tries}");
    assert!(!pod.agent.is_ready() && pod.agent.token().is_none());
}

#[test]
fn each_bearer_has_one_idempotency_key_for_all_its_retries() {
    let mut pod = Pod::holding("a", 20);
    let at = |pod: &mut Pod, seconds: i64, event: Event| {
        pod.wall.advance(seconds);
        pod.mono.advance(seconds);
        let now = Now {
            wall: pod.wall.unix_millis(),
            mono: pod.mono.monotonic(),
        };
        pod.agent.handle(now, event)
    };
    let first = key_of(&at(&mut pod, 17, Event::Tick));
    at(&mut pod, 0, Event::Renewed(Err(failure(BrokerRequest::Renew, AWAY))));
    let second = key_of(&at(&mut pod, 1, Event::Tick));
    assert_eq!(first, second);
    pod.renewed("b", 20);
    pod.written();
    let third = key_of(&at(&mut pod, 17, Event::Tick));
    assert_ne!(first, third);
}

#[test]
fn a_refused_renewal_removes_no_valid_token() {
    for code in [
        ErrorCode::Superseded,
        ErrorCode::PolicyChanged,
        ErrorCode::Suspended,
        ErrorCode::Unauthorized,
        ErrorCode::NotFound,
        ErrorCode::InsufficientScope,
        ErrorCode::Forbidden,
        ErrorCode::InvalidRequest,
        ErrorCode::ProofRequired,
        ErrorCode::ProofInvalid,
    ] {
        let mut pod = Pod::holding("a", 300);
        pod.next_but_validation();
        assert_eq!(pod.not_renewed(denied(code)), ["say Refused", "validate a"], "{code}");
        // Some register at once, some after a pause, and the token is there all the while.
        if pod.happens(Event::Validated(Ok(true))).is_empty() {
            assert_eq!(pod.next().0, ["register"], "{code}");
        }
        assert!(pod.agent.is_ready(), "{code}");
        assert_eq!(pod.registered("b", 300), ["say Registered", "write b"], "{code}");
    }
}

#[test]
fn a_stale_proof_is_corrected_and_tried_once_more_at_once() {
    let stale = denied(ErrorCode::ProofStale);
    let mut pod = Pod::holding("a", 300);
    pod.next_but_validation();
    assert_eq!(pod.not_renewed(stale), ["say Refused", "renew a"]);
    assert_eq!(pod.renewed("b", 300), ["say Renewed", "write b"]);
    pod.written();
    // For each token anew; the second time it is a refusal like others, and the token stays.
    pod.next_but_validation();
    assert_eq!(pod.not_renewed(stale), ["say Refused", "renew b"]);
    assert_eq!(pod.not_renewed(stale), ["say Refused", "validate b"]);
    assert_eq!(pod.happens(Event::Validated(Ok(true))), [""; 0]);
    assert_eq!(pod.next().0, ["register"]);
    assert!(pod.agent.is_ready());
    assert_eq!(pod.registered("c", 300), ["say Registered", "write c"]);
}

#[test]
fn a_revocation_is_obeyed_after_a_stale_proof() {
    let mut pod = Pod::holding("a", 300);
    pod.next_but_validation();
    pod.not_renewed(denied(ErrorCode::ProofStale));
    assert_eq!(
        pod.not_renewed(denied(ErrorCode::Revoked)),
        ["remove", "say Dropped", "say Quarantined"]
    );
}

#[test]
fn a_lost_answer_is_not_taken_for_a_persons_decision() {
    let mut pod = Pod::holding("a", 300);
    pod.next_but_validation();
    pod.not_renewed(AWAY);
    assert_eq!(pod.next().0, ["renew a"]);
    assert_eq!(
        pod.not_renewed(denied(ErrorCode::Revoked)),
        ["say Refused", "validate a"]
    );
    assert_eq!(
        pod.happens(Event::Validated(Ok(false))),
        ["remove", "say Dropped", "register"]
    );
    // If it was one after all, the launch says so.
    assert_eq!(pod.not_registered(denied(ErrorCode::Revoked)), ["say Quarantined"]);
}

#[test]
fn a_repeated_answer_counts_its_life_from_the_first_try() {
    let mut pod = Pod::holding("a", 100);
    pod.next_but_validation();
    let first_try = pod.mono.monotonic();
    pod.not_renewed(AWAY);
    assert_eq!(pod.next_but_validation().0, ["renew a"]);
    pod.not_renewed(AWAY);
    assert_eq!(pod.next_but_validation().0, ["renew a"]);
    assert_eq!(pod.renewed("b", 100), ["say Renewed", "write b"]);
    pod.written();
    let (wanted, _) = pod.next_but_validation();
    assert_eq!(wanted, ["renew b"]);
    let passed = pod.passed(first_try).as_secs();
    assert!((75..=85).contains(&passed), "{passed}");
}
