//! Named sequences: what happens, when, and what the agent then wants.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_client::Class;
use agentwrit_protocol::clock::{Clock, ManualClock, SequenceEntropy};
use agentwrit_protocol::{ErrorCode, Sensitive};

use super::{Action, Agent, Event, Failure, Found, Now, Stage};
use crate::token::{Issued, unsigned};

const START: i64 = 1_000_000;

/// An agent and the two clocks of its machine.
struct Pod {
    agent: Agent,
    wall: ManualClock,
    mono: ManualClock,
}

impl Pod {
    fn new() -> Self {
        Self {
            agent: Agent::new(Arc::new(SequenceEntropy::default())),
            wall: ManualClock::at(START),
            mono: ManualClock::at(0),
        }
    }

    /// A pod that holds the token `jti` with a life of `life` seconds, written.
    fn holding(jti: &str, life: i64) -> Self {
        let mut pod = Self::new();
        assert_eq!(pod.start(Found::Nothing), ["register"]);
        assert_eq!(pod.registered(jti, life), ["say Registered", &format!("write {jti}")]);
        assert_eq!(pod.written(), [""; 0]);
        pod
    }

    fn happens(&mut self, event: Event) -> Vec<String> {
        let now = Now {
            wall: self.wall.unix_millis(),
            mono: self.mono.unix_millis(),
        };
        self.agent.handle(now, event).iter().map(shown).collect()
    }

    fn start(&mut self, found: Found) -> Vec<String> {
        self.happens(Event::Started(found))
    }

    fn issued(&self, jti: &str, life: i64) -> Issued {
        Issued::read(unsigned(self.wall.unix_seconds(), life, jti)).unwrap()
    }

    fn registered(&mut self, jti: &str, life: i64) -> Vec<String> {
        let issued = self.issued(jti, life);
        self.happens(Event::Registered(Ok(issued)))
    }

    fn renewed(&mut self, jti: &str, life: i64) -> Vec<String> {
        let issued = self.issued(jti, life);
        self.happens(Event::Renewed(Ok(issued)))
    }

    fn written(&mut self) -> Vec<String> {
        self.happens(Event::Written(Ok(())))
    }

    fn not_registered(&mut self, class: Class) -> Vec<String> {
        self.happens(Event::Registered(Err(failure(Stage::Launch, class))))
    }

    fn not_renewed(&mut self, class: Class) -> Vec<String> {
        self.happens(Event::Renewed(Err(failure(Stage::Renew, class))))
    }

    /// Both clocks move on and the deadline is looked at.
    fn after(&mut self, seconds: i64) -> Vec<String> {
        self.wall.advance(seconds);
        self.mono.advance(seconds);
        self.happens(Event::Tick)
    }

    /// Lets time pass, at the agent's own deadlines, until it wants something; answers what and after how many
    /// seconds, at most a day.
    fn next(&mut self) -> (Vec<String>, i64) {
        let begin = self.mono.unix_millis();
        loop {
            let step = (self.agent.deadline() - self.mono.unix_millis()).max(1);
            self.wall.advance_millis(step);
            self.mono.advance_millis(step);
            let wanted = self.happens(Event::Tick);
            let passed = self.mono.unix_millis() - begin;
            assert!(passed < 86_400_000, "nothing happens for a day");
            if !wanted.is_empty() {
                return (wanted, passed / 1_000);
            }
        }
    }

    /// As `next`, answering every validation with "it stands".
    fn next_but_validation(&mut self) -> (Vec<String>, i64) {
        let begin = self.mono.unix_millis();
        loop {
            let (wanted, _) = self.next();
            if !wanted.iter().all(|want| want.starts_with("validate")) {
                return (wanted, (self.mono.unix_millis() - begin) / 1_000);
            }
            assert_eq!(self.happens(Event::Validated(Ok(true))), [""; 0]);
        }
    }
}

fn failure(stage: Stage, class: Class) -> Failure {
    Failure {
        stage,
        class,
        text: "because".to_owned(),
    }
}

const AWAY: Class = Class::Retry(None);

fn denied(code: ErrorCode) -> Class {
    Class::Denied(code)
}

fn jti(token: &Sensitive) -> String {
    use base64::Engine;
    let payload = token.expose().split('.').nth(1).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    claims["jti"].as_str().unwrap().to_owned()
}

fn shown(action: &Action) -> String {
    match action {
        Action::Register => "register".to_owned(),
        Action::Renew { token, idempotency_key } => {
            assert_eq!(idempotency_key.as_ref().unwrap().len(), 32);
            format!("renew {}", jti(token))
        }
        Action::Validate(token) => format!("validate {}", jti(token)),
        Action::Release(token) => format!("release {}", jti(token)),
        Action::Write(token) => format!("write {}", jti(token)),
        Action::Remove => "remove".to_owned(),
        Action::Exit => "exit".to_owned(),
        Action::Tell(notice) => {
            let debug = format!("{notice:?}");
            let name: String = debug.chars().take_while(char::is_ascii_alphabetic).collect();
            format!("say {name}")
        }
    }
}

fn key_of(actions: &[Action]) -> String {
    let key = actions.iter().find_map(|action| match action {
        Action::Renew { idempotency_key, .. } => idempotency_key.clone(),
        _ => None,
    });
    key.unwrap()
}

#[test]
fn a_pod_registers_writes_and_is_ready_only_then() {
    let mut pod = Pod::new();
    assert_eq!(pod.start(Found::Nothing), ["register"]);
    assert!(!pod.agent.is_ready());
    assert_eq!(pod.registered("a", 300), ["say Registered", "write a"]);
    assert!(!pod.agent.is_ready(), "before the file is there");
    pod.written();
    assert!(pod.agent.is_ready());
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
fn a_broker_that_is_away_at_start_is_asked_again_with_growing_pauses() {
    let mut pod = Pod::new();
    pod.start(Found::Nothing);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        assert_eq!(pod.not_registered(AWAY), ["say Trouble"]);
        let (wanted, seconds) = pod.next();
        assert_eq!(wanted, ["register"]);
        pauses.push(seconds);
    }
    assert!(pauses.windows(2).take(5).all(|pair| pair[0] <= pair[1]), "{pauses:?}");
    assert!(pauses[0] <= 1 && pauses[7] >= 15 && pauses[7] <= 30, "{pauses:?}");
}

#[test]
fn a_refused_launch_is_told_and_tried_again_up_to_a_minute_later() {
    let mut pod = Pod::new();
    pod.start(Found::Nothing);
    let mut longest = 0;
    for _ in 0..9 {
        assert_eq!(
            pod.not_registered(denied(ErrorCode::LaunchTokenNotFound)),
            ["say Refused"]
        );
        let (wanted, seconds) = pod.next();
        assert_eq!(wanted, ["register"]);
        longest = seconds.max(longest);
    }
    assert!((30..=60).contains(&longest), "{longest}");
    assert_eq!(pod.registered("a", 300), ["say Registered", "write a"]);
}

#[test]
fn a_rate_limit_is_waited_for_as_long_as_asked() {
    let mut pod = Pod::new();
    pod.start(Found::Nothing);
    pod.not_registered(Class::RateLimited(Some(Duration::from_secs(17))));
    let (wanted, seconds) = pod.next();
    assert_eq!((wanted, seconds), (vec!["register".to_owned()], 17));
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
            pod.happens(Event::Validated(Err(failure(Stage::Validate, AWAY))));
            let (wanted, _) = pod.next();
            assert_eq!(wanted, ["renew a"]);
            continue;
        }
        assert_eq!(wanted, ["renew a"]);
        tries += 1;
    }
    assert_eq!(pod.mono.unix_seconds(), 300);
    assert!(tries > 4, "{tries}");
    assert!(!pod.agent.is_ready() && pod.agent.token().is_none());
}

#[test]
fn every_try_with_one_bearer_has_one_key_and_the_next_bearer_another() {
    let mut pod = Pod::holding("a", 20);
    let at = |pod: &mut Pod, seconds: i64, event: Event| {
        pod.wall.advance(seconds);
        pod.mono.advance(seconds);
        let now = Now {
            wall: pod.wall.unix_millis(),
            mono: pod.mono.unix_millis(),
        };
        pod.agent.handle(now, event)
    };
    let first = key_of(&at(&mut pod, 17, Event::Tick));
    at(&mut pod, 0, Event::Renewed(Err(failure(Stage::Renew, AWAY))));
    let second = key_of(&at(&mut pod, 1, Event::Tick));
    assert_eq!(first, second);
    pod.renewed("b", 20);
    pod.written();
    let third = key_of(&at(&mut pod, 17, Event::Tick));
    assert_ne!(first, third);
}

#[test]
fn a_repeated_answer_counts_its_life_from_the_first_try() {
    let mut pod = Pod::holding("a", 100);
    pod.next_but_validation();
    let first_try = pod.mono.unix_millis();
    pod.not_renewed(AWAY);
    assert_eq!(pod.next_but_validation().0, ["renew a"]);
    pod.not_renewed(AWAY);
    assert_eq!(pod.next_but_validation().0, ["renew a"]);
    assert_eq!(pod.renewed("b", 100), ["say Renewed", "write b"]);
    pod.written();
    let (wanted, _) = pod.next_but_validation();
    assert_eq!(wanted, ["renew b"]);
    let passed = (pod.mono.unix_millis() - first_try) / 1_000;
    assert!((75..=85).contains(&passed), "{passed}");
}

#[test]
fn a_token_that_no_longer_stands_is_renewed_at_once_for_the_reason() {
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

#[test]
fn a_changed_policy_costs_no_gap_when_the_old_token_still_stands() {
    let mut pod = Pod::holding("a", 300);
    pod.next_but_validation();
    assert_eq!(
        pod.not_renewed(denied(ErrorCode::PolicyChanged)),
        ["say Refused", "register"]
    );
    assert!(pod.agent.is_ready());
    assert_eq!(pod.registered("b", 600), ["say Registered", "write b"]);
    pod.written();
    assert!(pod.agent.is_ready());
}

#[test]
fn a_changed_policy_that_refuses_the_pod_ends_the_old_token_when_it_falls() {
    let mut pod = Pod::holding("a", 300);
    pod.next_but_validation();
    pod.not_renewed(denied(ErrorCode::PolicyChanged));
    assert_eq!(
        pod.not_registered(denied(ErrorCode::ServiceAccountNotAllowed)),
        ["say Refused", "validate a"]
    );
    assert_eq!(pod.happens(Event::Validated(Ok(false))), ["remove", "say Dropped"]);
    assert!(!pod.agent.is_ready());
    assert_eq!(pod.next().0, ["register"]);
}

#[test]
fn a_persons_revocation_stands_until_it_is_lifted() {
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

#[test]
fn a_pod_that_is_quarantined_from_the_start_asks_once_a_minute() {
    let mut pod = Pod::new();
    pod.start(Found::Nothing);
    assert_eq!(pod.not_registered(denied(ErrorCode::Revoked)), ["say Quarantined"]);
    assert!(pod.next().1 >= 50);
}

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

#[test]
fn a_suspended_machine_renews_as_soon_as_it_wakes() {
    let mut pod = Pod::holding("a", 3_600);
    pod.wall.advance(600);
    assert_eq!(pod.happens(Event::Tick), ["say ClockJumped", "renew a"]);
    assert_eq!(pod.renewed("b", 3_600), ["say Renewed", "write b"]);
}

#[test]
fn after_a_long_sleep_the_answer_tells_whether_the_token_lives() {
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
            "validate a" => drop(pod.happens(Event::Validated(Err(failure(Stage::Validate, AWAY))))),
            _ => break,
        }
    }
    assert_eq!(pod.mono.unix_seconds(), 300);
}

#[test]
fn an_absent_broker_is_told_once_by_validation() {
    let mut pod = Pod::holding("a", 3_600);
    pod.next();
    let away = || Event::Validated(Err(failure(Stage::Validate, AWAY)));
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
fn a_file_that_cannot_be_written_is_tried_again_and_not_ready() {
    let mut pod = Pod::new();
    pod.start(Found::Nothing);
    pod.registered("a", 300);
    assert_eq!(pod.happens(Event::Written(Err("no space".into()))), ["say WriteFailed"]);
    assert!(!pod.agent.is_ready());
    assert_eq!(pod.next().0, ["write a"]);
    pod.written();
    assert!(pod.agent.is_ready());
}

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
fn being_stopped_during_registration_waits_for_the_token_to_release_it() {
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
    let later = |pod: &Pod| pod.agent.deadline() > pod.mono.unix_millis();
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
    pod.happens(Event::Released(Err(failure(Stage::Release, AWAY))));
    assert!(later(&pod), "nor is it validated");
}

#[test]
fn a_revocation_is_asked_for_early_enough_to_be_felt_within_thirty_seconds() {
    let mut pod = Pod::holding("a", 86_400);
    for _ in 0..200 {
        let before = pod.mono.unix_millis();
        assert_eq!(pod.next().0, ["validate a"]);
        let passed = pod.mono.unix_millis() - before;
        assert!((20_000..30_000).contains(&passed), "{passed} ms");
        pod.happens(Event::Validated(Ok(true)));
    }
}

#[test]
fn being_stopped_while_the_broker_is_away_ends_within_eight_seconds() {
    let mut pod = Pod::holding("a", 300);
    pod.happens(Event::Stop);
    let mut passed = 0;
    loop {
        let said = pod.happens(Event::Released(Err(failure(Stage::Release, AWAY))));
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
            Stage::Release,
            denied(ErrorCode::Revoked)
        )))),
        ["say NotReleased", "remove", "exit"]
    );
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
