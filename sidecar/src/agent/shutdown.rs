//! SIGTERM: give the token back, remove the file, end.

use std::time::Duration;

use agentwrit_client::Class;

use super::action::{Action, Notice};
use super::event::{Failure, Now};
use super::state::State;
use super::{Agent, Request};

/// Longest time from SIGTERM to the end.
const STOP_LIMIT: Duration = Duration::from_secs(8);
/// Longest wait for the answer of a registration or renewal: the token that it may bring must be released too.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// Pause between two tries to release.
const RELEASE_PAUSE: Duration = Duration::from_secs(1);

impl Agent {
    pub(super) fn stop(&mut self, now: Now) -> Vec<Action> {
        if self.is_stopping() {
            return Vec::new();
        }
        self.state = State::Stopping {
            held: self.take_state().into_held(),
            until: now.mono.saturating_add(STOP_LIMIT),
            wait: now.mono.saturating_add(ANSWER_LIMIT),
            release_at: now.mono,
        };
        vec![Action::Tell(Notice::Stopping)]
    }

    pub(super) fn next_when_stopping(&mut self, now: Now) -> Vec<Action> {
        let State::Stopping {
            held,
            until,
            wait,
            release_at,
        } = &self.state
        else {
            return Vec::new();
        };
        if now.mono >= *until {
            return self.end();
        }
        match self.under_way.map(|under_way| under_way.request) {
            Some(Request::Release) => return Vec::new(),
            Some(Request::Register | Request::Renew) if now.mono < *wait => return Vec::new(),
            Some(Request::Register | Request::Renew | Request::Validate) | None => {}
        }
        let Some(held) = held else { return self.end() };
        if now.mono < *release_at {
            return Vec::new();
        }
        let action = Action::Release(held.issued.token.clone());
        vec![self.send(now, Request::Release, action)]
    }

    pub(super) fn released(&mut self, now: Now, result: Result<(), Failure>) -> Vec<Action> {
        let State::Stopping { until, release_at, .. } = &mut self.state else {
            return Vec::new();
        };
        let notice = match result {
            Ok(()) => Notice::Released,
            Err(failure) => {
                let again = now.mono.saturating_add(RELEASE_PAUSE);
                if !matches!(failure.class, Class::Denied(_)) && again < *until {
                    *release_at = again;
                    return Vec::new();
                }
                Notice::NotReleased { reason: failure.text }
            }
        };
        let mut actions = vec![Action::Tell(notice)];
        actions.extend(self.end());
        actions
    }

    fn end(&mut self) -> Vec<Action> {
        self.under_way = None;
        self.state = State::Stopped;
        vec![Action::Remove, Action::Exit]
    }
}
