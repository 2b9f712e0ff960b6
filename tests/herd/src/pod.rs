//! A pod: the sidecar's decisions, and the token file as they leave it.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::{Jti, PodUid, Sensitive, Ttl, UnixMillis, UnixSeconds};
use agentwrit_sidecar::{Action, Agent, Event, Issued, Notice, Now};

use crate::broker::{LaunchRate, Request};
use crate::random::Random;

/// The wall clock at the begin of a run, Unix milliseconds.
const BEGIN: i64 = 1_800_000_000_000;

pub(crate) struct Pod {
    agent: Agent,
    started: u64,
    /// When somebody will look at the deadline: no later than it.
    pub(crate) look_at: u64,
    pub(crate) launches: LaunchRate,
    /// The end of the token in the file, as the token itself says.
    file: Option<u64>,
    had_token: bool,
}

/// What one event led to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) request: Option<Request>,
    pub(crate) expired: bool,
    pub(crate) first_token: bool,
}

impl Pod {
    pub(crate) fn new(started: u64, seed: u64) -> Self {
        Self {
            agent: Agent::new(Arc::new(Random::seeded(seed))),
            started,
            look_at: u64::MAX,
            launches: LaunchRate::default(),
            file: None,
            had_token: false,
        }
    }

    pub(crate) fn started(&self) -> u64 {
        self.started
    }

    pub(crate) fn has_token(&self) -> bool {
        self.file.is_some()
    }

    /// When the agent wants to be called, at the latest.
    pub(crate) fn deadline(&self) -> u64 {
        // Up, as a timer does: never before the moment.
        let millis = self.agent.deadline().as_nanos().div_ceil(1_000_000);
        self.started.saturating_add(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    /// Hands the agent an event, and does what it says with the file.
    pub(crate) fn happens(&mut self, now: u64, event: Event) -> Outcome {
        let mut outcome = Outcome::default();
        let mut next = Some(event);
        while let Some(event) = next.take() {
            for action in self.agent.handle(self.clocks(now), event) {
                match action {
                    Action::Register => outcome.request = Some(Request::Launch),
                    Action::Renew { .. } => outcome.request = Some(Request::Renew),
                    Action::Validate(_) => outcome.request = Some(Request::Validate),
                    Action::Write(token) => {
                        self.file = end_of(&token);
                        outcome.first_token = !std::mem::replace(&mut self.had_token, true);
                        next = Some(Event::Written(Ok(())));
                    }
                    Action::Remove => self.file = None,
                    Action::Tell(Notice::Dropped { .. }) => outcome.expired = true,
                    Action::Tell(_) | Action::Release(_) | Action::Exit => {}
                }
            }
        }
        outcome
    }

    /// Whether file, endpoint and readiness say what is so: a token that is good, or none.
    pub(crate) fn is_honest(&self, now: u64) -> bool {
        let good = |end: u64| now < end;
        let endpoint = self.agent.token().map(|token| end_of(token).is_some_and(good));
        self.file.is_none_or(good)
            && endpoint.is_none_or(|good| good)
            && self.agent.is_ready() == self.file.is_some()
            && self.agent.token().is_some() == self.file.is_some()
    }

    fn clocks(&self, now: u64) -> Now {
        Now {
            wall: UnixMillis::new(BEGIN) + Duration::from_millis(now),
            mono: Duration::from_millis(now.saturating_sub(self.started)),
        }
    }
}

/// A token that the broker gives at `now`; its text is the moment of its end.
pub(crate) fn issued(now: u64, life: u64) -> Issued {
    let exp = now / 1_000 + life;
    // It is good in its last second too.
    let end = (exp + 1) * 1_000;
    Issued {
        token: Sensitive::from(end.to_string()),
        agent_id: String::new(),
        jti: Jti::from(""),
        pod_uid: PodUid::from(""),
        scopes: 1,
        exp: UnixSeconds::new(BEGIN / 1_000 + i64::try_from(exp).unwrap_or(i64::MAX / 2)),
        life: Ttl::seconds(i64::try_from(life).unwrap_or(i64::MAX)),
    }
}

fn end_of(token: &Sensitive) -> Option<u64> {
    token.expose().parse().ok()
}
