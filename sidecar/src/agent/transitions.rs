//! What each event changes.

use std::time::Duration;

use agentwrit_client::Class;
use agentwrit_protocol::ErrorCode;

use super::action::{Action, Holding, Notice};
use super::event::{Event, Failure, Found, Now};
use super::state::{ExpiresBy, Held, Origin, Standing, State};
use super::{Agent, OVERLAP};
use crate::schedule::{AWAY_CAP, QUARANTINE, REFUSED_CAP, STANDING_CAP, VALIDATION};
use crate::token::Issued;

/// Pauses between tries near a token's end are at most this long, and no shorter than half of it.
const LAST_TRIES: Duration = Duration::from_millis(500);

const REJECTED: &str = "the broker no longer accepts it";

impl Agent {
    pub(super) fn apply(&mut self, now: Now, event: Event) -> Vec<Action> {
        let sent = match event {
            Event::Registered(_) | Event::Renewed(_) | Event::Validated(_) | Event::Released(_) => {
                self.under_way.take().map_or(now, |under_way| under_way.sent)
            }
            Event::Started(_) | Event::Tick | Event::Written(_) | Event::Stop => now,
        };
        match event {
            Event::Started(found) => self.started(now, found),
            Event::Tick => Vec::new(),
            Event::Registered(Ok(issued)) => vec![Action::Tell(Notice::Registered(self.accept(now, sent, issued)))],
            Event::Registered(Err(failure)) => self.not_registered(now, failure),
            Event::Renewed(Ok(issued)) => {
                // It may be the repeated answer to an earlier try, with the life of that moment.
                let first_tried = self.state.held().and_then(|held| held.renewal.first_tried);
                let holding = self.accept(now, first_tried.unwrap_or(sent), issued);
                vec![Action::Tell(Notice::Renewed(holding))]
            }
            Event::Renewed(Err(failure)) => self.not_renewed(now, failure),
            Event::Validated(result) => self.validated(now, result),
            Event::Released(result) => self.released(now, result),
            Event::Written(result) => self.written(now, result),
            Event::Stop => self.stop(now),
        }
    }

    fn started(&mut self, now: Now, found: Found) -> Vec<Action> {
        let (old, actions) = match found {
            Found::Nothing => (None, Vec::new()),
            Found::Token(issued) if issued.exp.start() > now.wall => {
                let left = issued.exp.start().since(now.wall);
                self.pod_uid.clone_from(&issued.pod_uid);
                let held = Held::new(issued, Origin::Found { recheck: true }, now, left, now.mono);
                (Some(held), vec![Action::Tell(Notice::Found { left })])
            }
            Found::Token(_) | Found::Invalid => (None, vec![Action::Tell(Notice::FoundInvalid), Action::Remove]),
        };
        self.state = State::Registering { old, at: now.mono };
        actions
    }

    /// A token from the broker: keep it, write it, plan its renewal. Its life counts from `since`.
    fn accept(&mut self, now: Now, since: Now, issued: Issued) -> Holding {
        let life = issued.life.duration();
        let holding = Holding {
            agent_id: issued.agent_id.clone(),
            scopes: issued.scopes,
            exp: issued.exp,
        };
        self.pod_uid.clone_from(&issued.pod_uid);
        let with_others = self.failures > 0 || !matches!(self.state, State::Holding { .. });
        self.failures = 0;
        let renewal_age = (!self.is_stopping()).then(|| {
            if with_others {
                self.schedule.first_renewal_age(life)
            } else {
                self.schedule.renewal_age(life)
            }
        });
        let origin = Origin::Received {
            write_at: Some(now.mono),
        };
        let validate_at = now.mono.saturating_add(self.schedule.draw(VALIDATION));
        let held = Held::new(issued, origin, since, life, validate_at);
        match (&mut self.state, renewal_age) {
            (State::Stopping { held: slot, .. }, _) => *slot = Some(held),
            (_, Some(age)) => {
                self.state = State::Holding {
                    held,
                    renew_at: since.mono.saturating_add(age),
                }
            }
            (_, None) => {}
        }
        holding
    }

    fn not_registered(&mut self, now: Now, failure: Failure) -> Vec<Action> {
        self.failures = self.failures.saturating_add(1);
        if self.is_stopping() {
            return Vec::new();
        }
        if failure.class == Class::Denied(ErrorCode::Revoked) {
            return self.quarantine(now);
        }
        let pause = match (&self.state, failure.class) {
            (State::Quarantined { .. }, _) => self.schedule.draw(QUARANTINE),
            (state, Class::Retry(after)) => {
                let cap = state.held().map_or(AWAY_CAP, |held| away_cap_with(held, now));
                self.schedule.back_off(self.failures, cap, after)
            }
            (_, Class::RateLimited(after)) => self.schedule.back_off(self.failures, REFUSED_CAP, after),
            (_, Class::Denied(_)) => self.schedule.back_off(self.failures, REFUSED_CAP, None),
        };
        let at = now.mono.saturating_add(pause);
        self.state = match self.take_state() {
            State::Quarantined { .. } => State::Quarantined { at },
            state => State::Registering {
                old: state.into_held(),
                at,
            },
        };
        if let (Class::Denied(_) | Class::RateLimited(_), Some(held)) = (failure.class, self.state.held_mut()) {
            // There is no other token, or not soon: check whether the old one is still valid.
            held.validate_at = now.mono;
        }
        vec![tell(failure, pause)]
    }

    fn not_renewed(&mut self, now: Now, failure: Failure) -> Vec<Action> {
        self.failures = self.failures.saturating_add(1);
        if let Some(held) = self.state.held_mut() {
            held.expires_by = ExpiresBy::EitherClock;
        }
        // When it expired meanwhile, nothing of it is left to renew.
        let State::Holding { held, renew_at } = &mut self.state else {
            return Vec::new();
        };
        match failure.class {
            // The refusal carries the broker's time: try again with that at once. It doesn't count as a try.
            Class::Denied(ErrorCode::ProofStale) if !held.renewal.time_corrected => {
                held.renewal.time_corrected = true;
                held.renewal.tries = held.renewal.tries.saturating_sub(1);
                *renew_at = now.mono;
                vec![tell(failure, Duration::ZERO)]
            }
            Class::Denied(code) => self.renewal_refused(now, code, failure),
            Class::Retry(after) | Class::RateLimited(after) => {
                let pause = self.schedule.back_off(self.failures, away_cap_with(held, now), after);
                *renew_at = now.mono.saturating_add(pause);
                vec![tell(failure, pause)]
            }
        }
    }

    fn renewal_refused(&mut self, now: Now, code: ErrorCode, failure: Failure) -> Vec<Action> {
        let pause = match code {
            ErrorCode::Revoked
            | ErrorCode::Superseded
            | ErrorCode::PolicyChanged
            | ErrorCode::Unauthorized
            | ErrorCode::NotFound => Duration::ZERO,
            _ => self.schedule.back_off(1, REFUSED_CAP, None),
        };
        // After a try whose answer was lost, our token may be the predecessor of one that the broker has already given:
        // then `revoked` isn't a person's decision. If it is, the launch that follows is refused with the same code.
        let certain = self.state.held().is_some_and(|held| held.renewal.tries <= 1);
        if code == ErrorCode::Revoked && certain {
            return self.quarantine(now);
        }
        let mut actions = vec![tell(failure, pause)];
        // A refused renewal doesn't mean that the token is no longer valid.
        match self.state.held_mut() {
            Some(held) if held.standing == Standing::Accepted => held.validate_at = now.mono,
            _ => actions.extend(self.drop_token(now, REJECTED)),
        }
        self.failures = 0;
        self.state = State::Registering {
            old: self.take_state().into_held(),
            at: now.mono.saturating_add(pause),
        };
        actions
    }

    fn validated(&mut self, now: Now, result: Result<bool, Failure>) -> Vec<Action> {
        let pause = self.schedule.draw(VALIDATION);
        let Some(held) = self.state.held_mut() else {
            return Vec::new();
        };
        held.validate_at = now.mono.saturating_add(pause);
        match result {
            Ok(true) => {
                held.outage_logged = false;
                if held.origin == (Origin::Found { recheck: true }) {
                    held.origin = Origin::Found { recheck: false };
                    held.validate_at = now.mono.saturating_add(OVERLAP.duration());
                }
                Vec::new()
            }
            Ok(false) => self.rejected(now),
            Err(_) if held.outage_logged => Vec::new(),
            Err(failure) => {
                held.outage_logged = true;
                vec![tell(failure, pause)]
            }
        }
    }

    /// The broker no longer accepts the token. While holding, a renewal follows at once: its refusal says why.
    fn rejected(&mut self, now: Now) -> Vec<Action> {
        let State::Holding { held, renew_at } = &mut self.state else {
            return self.drop_token(now, REJECTED);
        };
        held.standing = Standing::Rejected;
        *renew_at = now.mono;
        vec![Action::Tell(Notice::NoLongerValid)]
    }

    fn written(&mut self, now: Now, result: Result<(), String>) -> Vec<Action> {
        let Some(held) = self.state.held_mut() else {
            // The token was dropped while it was being written.
            return vec![Action::Remove];
        };
        match result {
            Ok(()) => {
                self.write_failures = 0;
                held.origin = Origin::Written;
                Vec::new()
            }
            Err(reason) => {
                self.write_failures = self.write_failures.saturating_add(1);
                let pause = self.schedule.back_off(self.write_failures, STANDING_CAP, None);
                held.origin = Origin::Received {
                    write_at: Some(now.mono.saturating_add(pause)),
                };
                vec![Action::Tell(Notice::WriteFailed { reason, pause })]
            }
        }
    }

    /// A person revoked this pod's agent: the token goes, and another is asked for now and then.
    fn quarantine(&mut self, now: Now) -> Vec<Action> {
        let mut actions = self.drop_token(now, "a person revoked this pod's agent");
        if !matches!(self.state, State::Quarantined { .. }) {
            actions.push(Action::Tell(Notice::Quarantined {
                pod_uid: self.pod_uid.clone(),
            }));
        }
        self.state = State::Quarantined {
            at: now.mono.saturating_add(self.schedule.draw(QUARANTINE)),
        };
        actions
    }

    /// The state, to be replaced by the next.
    pub(super) fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::New)
    }
}

/// The longest pause while the broker is away and this token still stands: half of what is left of it, so that a broker
/// that comes back before its end is asked before its end.
fn away_cap_with(held: &Held, now: Now) -> Duration {
    let left = held.expires.mono.saturating_sub(now.mono);
    (left / 2).clamp(LAST_TRIES, STANDING_CAP)
}

fn tell(failure: Failure, pause: Duration) -> Action {
    let Failure {
        request,
        class,
        symptom,
        text,
    } = failure;
    Action::Tell(match class {
        Class::Denied(code) => Notice::Refused {
            request,
            code,
            detail: text,
            pause,
        },
        Class::Retry(_) | Class::RateLimited(_) => Notice::Trouble {
            request,
            symptom,
            text,
            pause,
        },
    })
}
