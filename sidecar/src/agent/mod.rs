//! The decisions: a state machine without sockets, files or clocks.
//!
//! The caller passes each event and its time to [`Agent::handle`], does the returned [`Action`]s, and calls again at
//! [`Agent::deadline`] at the latest. One request is under way at a time.

mod action;
mod event;
mod shutdown;
mod state;
mod transitions;

use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::{Entropy, PodUid, Sensitive, Ttl};

pub use self::action::{Action, Holding, Jump, Notice};
pub use self::event::{Event, Failure, Found, Now};

use self::state::{ExpiresBy, Origin, State};
use crate::schedule::Schedule;

/// How long the predecessor of a renewed token is still valid.
pub(crate) const OVERLAP: Ttl = Ttl::seconds(10);
/// Longest time between two looks at the clocks.
const CLOCK_CHECK: Duration = Duration::from_secs(5);
/// Clocks that disagree by more have jumped.
const AGREEMENT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Register,
    Renew,
    Validate,
    Release,
}

#[derive(Debug, Clone, Copy)]
struct UnderWay {
    request: Request,
    sent: Now,
}

/// The state machine.
pub struct Agent {
    schedule: Schedule,
    state: State,
    under_way: Option<UnderWay>,
    failures: u32,
    write_failures: u32,
    pod_uid: PodUid,
    last: Option<Now>,
}

impl Agent {
    /// A machine that draws jitter and idempotency keys from `entropy`.
    pub fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self {
            schedule: Schedule::new(entropy),
            state: State::New,
            under_way: None,
            failures: 0,
            write_failures: 0,
            pod_uid: PodUid::default(),
            last: None,
        }
    }

    /// The token, valid as far as is known.
    pub fn token(&self) -> Option<&Sensitive> {
        self.state.held().map(|held| &held.issued.token)
    }

    /// Whether this process has written a token that hasn't expired.
    pub fn is_ready(&self) -> bool {
        self.state.held().is_some_and(|held| held.origin == Origin::Written)
    }

    /// When [`Agent::handle`] must be called at the latest, on the monotonic clock.
    pub fn deadline(&self) -> Duration {
        let mut soonest = self.last.unwrap_or_default().mono.saturating_add(CLOCK_CHECK);
        let mut consider = |at: Duration| soonest = soonest.min(at);
        if let Some(held) = self.state.held() {
            consider(held.expires.mono);
            // While stopping, nothing is written or validated any more: those times would pass and never be served.
            if !self.is_stopping() {
                if let Origin::Received { write_at: Some(at) } = held.origin {
                    consider(at);
                }
                if self.under_way.is_none() {
                    consider(held.validate_at);
                }
            }
        }
        match self.state {
            State::Registering { at, .. } | State::Holding { renew_at: at, .. } | State::Quarantined { at } => {
                if self.under_way.is_none() {
                    consider(at);
                }
            }
            State::Stopping {
                until,
                wait,
                release_at,
                ..
            } => match self.under_way.map(|under_way| under_way.request) {
                None => consider(release_at.min(until)),
                Some(Request::Release) => consider(until),
                Some(Request::Register | Request::Renew | Request::Validate) => consider(wait),
            },
            State::New | State::Stopped => {}
        }
        soonest
    }

    /// Takes one event, and returns what to do, in order.
    pub fn handle(&mut self, now: Now, event: Event) -> Vec<Action> {
        let mut actions = Vec::from_iter(self.watch_clocks(now));
        actions.extend(self.apply(now, event));
        actions.extend(self.expire(now));
        actions.extend(self.start_what_is_due(now));
        actions
    }

    fn watch_clocks(&mut self, now: Now) -> Option<Action> {
        let last = self.last.replace(now)?;
        let expected = last.wall + now.mono.saturating_sub(last.mono);
        let (ahead, behind) = (now.wall.since(expected), expected.since(now.wall));
        let jump = if ahead > AGREEMENT {
            Jump::Forward(ahead)
        } else if behind > AGREEMENT {
            Jump::Backward(behind)
        } else {
            return None;
        };
        if let State::Holding { held, renew_at } = &mut self.state {
            *renew_at = now.mono;
            held.expires_by = ExpiresBy::MonotonicClock;
        }
        Some(Action::Tell(Notice::ClockJumped(jump)))
    }

    /// Drops the token when it has expired.
    fn expire(&mut self, now: Now) -> Vec<Action> {
        if self.state.held().is_some_and(|held| held.has_expired(now)) {
            self.drop_token(now, "it has expired")
        } else {
            Vec::new()
        }
    }

    fn drop_token(&mut self, now: Now, reason: &'static str) -> Vec<Action> {
        match self.state.drop_held(now) {
            Some(_) => vec![Action::Remove, Action::Tell(Notice::Dropped { reason })],
            None => Vec::new(),
        }
    }

    fn start_what_is_due(&mut self, now: Now) -> Vec<Action> {
        if self.is_stopping() {
            return self.next_when_stopping(now);
        }
        let write = self.state.held_mut().and_then(|held| held.take_due_write(now));
        let mut actions = Vec::from_iter(write.map(Action::Write));
        actions.extend(self.next_request(now));
        actions
    }

    fn next_request(&mut self, now: Now) -> Option<Action> {
        if self.under_way.is_some() {
            return None;
        }
        let validation_is_due = self.state.held().is_some_and(|held| now.mono >= held.validate_at);
        match &mut self.state {
            // First whether the token in the file is still accepted: if it is not, it is removed at once.
            State::Registering { at, .. } | State::Quarantined { at } if now.mono >= *at && !validation_is_due => {
                Some(self.send(now, Request::Register, Action::Register))
            }
            State::Holding { held, renew_at } if now.mono >= *renew_at => {
                let action = Action::Renew {
                    idempotency_key: held.try_renewal(now, &self.schedule),
                    held: Box::new(held.issued.clone()),
                };
                Some(self.send(now, Request::Renew, action))
            }
            State::Registering { old: Some(held), .. } | State::Holding { held, .. } if validation_is_due => {
                let action = Action::Validate(held.issued.token.clone());
                Some(self.send(now, Request::Validate, action))
            }
            _ => None,
        }
    }

    fn send(&mut self, now: Now, request: Request, action: Action) -> Action {
        self.under_way = Some(UnderWay { request, sent: now });
        action
    }

    fn is_stopping(&self) -> bool {
        matches!(self.state, State::Stopping { .. } | State::Stopped)
    }
}
