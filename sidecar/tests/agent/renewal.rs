//! A token after the other, with the broker there or away.

use std::time::Duration;

use agentwrit_protocol::ErrorCode;
use agentwrit_protocol::clock::Clock;

use super::pod::{AWAY, Pod, denied, failure};
use agentwrit_sidecar::BrokerRequest;
use agentwrit_sidecar::{Action, Event, Found, Now};

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
    // After a registration sooner: see `who_was_served_together_goes_apart`.
    let (first, always) = (120..=255, 225..=255);
    for (old, new, when) in [("a", "b", first), ("b", "c", always.clone()), ("c", "d", always)] {
        let (wanted, seconds) = pod.next_but_validation();
        assert_eq!(wanted, [format!("renew {old}")]);
        assert!(when.contains(&seconds), "{seconds}");
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
    assert!((4..=8).contains(&seconds), "{seconds}");
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
    assert!((40..=85).contains(&passed), "{passed}");
}

/// Seconds from the second token of each of 50 pods to its renewal, when `failures` tries failed before it.
fn ages_of_the_second(failures: u32) -> Vec<u64> {
    let age = |number: u64| {
        let mut pod = Pod::seeded(number);
        pod.start(Found::Nothing);
        pod.registered("a", 3_600);
        pod.written();
        pod.next_but_validation();
        for _ in 0..failures {
            pod.not_renewed(AWAY);
            assert_eq!(pod.next_but_validation().0, ["renew a"]);
        }
        pod.renewed("b", 3_600);
        pod.written();
        pod.next_but_validation().1
    };
    (1..=50).map(age).collect()
}

#[test]
fn who_was_served_together_goes_apart() {
    let first = |number| {
        let mut pod = Pod::seeded(number);
        pod.start(Found::Nothing);
        pod.registered("a", 3_600);
        pod.written();
        pod.next_but_validation().1
    };
    for (name, ages) in [
        ("registered", (1..=50).map(first).collect()),
        ("after an outage", ages_of_the_second(3)),
    ] {
        let (least, most) = (ages.iter().min().unwrap(), ages.iter().max().unwrap());
        assert!(
            (1_420..1_700).contains(least) && (2_900..=3_060).contains(most),
            "{name}: {least} {most}"
        );
    }
    let ages = ages_of_the_second(0);
    assert!(ages.iter().all(|age| (2_699..=3_060).contains(age)), "{ages:?}");
}

#[test]
fn a_standing_token_is_renewed_when_the_broker_is_back_in_time() {
    for number in 1..=50 {
        let mut pod = Pod::seeded(number);
        pod.start(Found::Nothing);
        pod.registered("a", 300);
        pod.written();
        pod.next_but_validation();
        // Away until two seconds before the end.
        while pod.mono.monotonic() < Duration::from_secs(298) {
            pod.not_renewed(AWAY);
            assert_eq!(pod.next_but_validation().0, ["renew a"], "{number}");
        }
        assert!(pod.mono.monotonic() < Duration::from_mins(5), "{number}");
        pod.renewed("b", 300);
        assert!(pod.agent.token().is_some(), "{number}");
    }
}
