//! An agent, the clocks of its machine, and what it wants, in words.

use agentwrit_client::Class;
use agentwrit_protocol::clock::{Clock, ManualClock, SequenceEntropy};
use agentwrit_protocol::{Entropy, ErrorCode, Sensitive};
use std::sync::Arc;
use std::time::Duration;

use agentwrit_sidecar::BrokerRequest;
use agentwrit_sidecar::Issued;
use agentwrit_sidecar::{Action, Agent, Event, Failure, Found, Now};
use agentwrit_testkit::{claims, unsigned_token};

const START: i64 = 1_000_000;

/// An agent and the two clocks of its machine.
pub struct Pod {
    pub agent: Agent,
    pub wall: ManualClock,
    pub mono: ManualClock,
}

impl Pod {
    pub fn new() -> Self {
        Self::seeded(0)
    }

    /// One that draws otherwise than those of other numbers.
    pub fn seeded(number: u64) -> Self {
        let entropy = SequenceEntropy::default();
        for _ in 0..number {
            entropy.fill(&mut [0; 1_600]).unwrap();
        }
        Self {
            agent: Agent::new(Arc::new(entropy)),
            wall: ManualClock::at(START),
            mono: ManualClock::at(0),
        }
    }

    /// A pod that holds the token `jti` with a life of `life` seconds, written.
    pub fn holding(jti: &str, life: i64) -> Self {
        let mut pod = Self::new();
        assert_eq!(pod.start(Found::Nothing), ["register"]);
        assert_eq!(pod.registered(jti, life), ["say Registered", &format!("write {jti}")]);
        assert_eq!(pod.written(), [""; 0]);
        pod
    }

    pub fn happens(&mut self, event: Event) -> Vec<String> {
        let now = Now {
            wall: self.wall.unix_millis(),
            mono: self.mono.monotonic(),
        };
        self.agent.handle(now, event).iter().map(shown).collect()
    }

    pub fn start(&mut self, found: Found) -> Vec<String> {
        self.happens(Event::Started(found))
    }

    pub fn issued(&self, jti: &str, life: i64) -> Issued {
        Issued::read(unsigned_token(self.wall.unix_seconds().get(), life, jti)).unwrap()
    }

    pub fn registered(&mut self, jti: &str, life: i64) -> Vec<String> {
        let issued = self.issued(jti, life);
        self.happens(Event::Registered(Ok(issued)))
    }

    pub fn renewed(&mut self, jti: &str, life: i64) -> Vec<String> {
        let issued = self.issued(jti, life);
        self.happens(Event::Renewed(Ok(issued)))
    }

    pub fn written(&mut self) -> Vec<String> {
        self.happens(Event::Written(Ok(())))
    }

    pub fn not_registered(&mut self, class: Class) -> Vec<String> {
        self.happens(Event::Registered(Err(failure(BrokerRequest::Launch, class))))
    }

    pub fn not_renewed(&mut self, class: Class) -> Vec<String> {
        self.happens(Event::Renewed(Err(failure(BrokerRequest::Renew, class))))
    }

    /// Both clocks move on, by whole milliseconds.
    fn pass(&self, length: Duration) {
        let millis = length.as_millis().try_into().unwrap();
        self.wall.advance_millis(millis);
        self.mono.advance_millis(millis);
    }

    /// Time since this reading of the monotonic clock.
    pub fn passed(&self, since: Duration) -> Duration {
        self.mono.monotonic().checked_sub(since).unwrap()
    }

    /// Both clocks move on and the deadline is looked at.
    pub fn after(&mut self, seconds: u64) -> Vec<String> {
        self.pass(Duration::from_secs(seconds));
        self.happens(Event::Tick)
    }

    /// Lets time pass, at the agent's own deadlines, until it wants something; answers what and after how many
    /// seconds, at most a day.
    pub fn next(&mut self) -> (Vec<String>, u64) {
        let begin = self.mono.monotonic();
        loop {
            let step = self.agent.deadline().saturating_sub(self.mono.monotonic());
            self.pass(step.max(Duration::from_millis(1)));
            let wanted = self.happens(Event::Tick);
            let passed = self.passed(begin);
            assert!(passed < Duration::from_hours(24), "nothing happens for a day");
            if !wanted.is_empty() {
                return (wanted, passed.as_secs());
            }
        }
    }

    /// As `next`, answering every validation with "it stands".
    pub fn next_but_validation(&mut self) -> (Vec<String>, u64) {
        let begin = self.mono.monotonic();
        loop {
            let (wanted, _) = self.next();
            if !wanted.iter().all(|want| want.starts_with("validate")) {
                return (wanted, self.passed(begin).as_secs());
            }
            assert_eq!(self.happens(Event::Validated(Ok(true))), [""; 0]);
        }
    }
}

pub fn failure(request: BrokerRequest, class: Class) -> Failure {
    Failure {
        request,
        class,
        symptom: "network",
        text: "because".to_owned(),
    }
}

pub const AWAY: Class = Class::Retry(None);

pub fn denied(code: ErrorCode) -> Class {
    Class::Denied(code)
}

fn jti(token: &Sensitive) -> String {
    claims(token.expose())["jti"].as_str().unwrap().to_owned()
}

fn shown(action: &Action) -> String {
    match action {
        Action::Register => "register".to_owned(),
        Action::Renew { held, idempotency_key } => {
            assert_eq!(idempotency_key.as_ref().unwrap().len(), 32);
            assert_eq!(jti(&held.token), held.jti.as_str());
            format!("renew {}", held.jti)
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
