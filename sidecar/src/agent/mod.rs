//! The decisions: a state machine without sockets, files or clocks.
//!
//! The caller tells what happened and when ([`Agent::handle`]), does what comes back ([`Action`]), and calls again at
//! [`Agent::deadline`] at the latest. One request is under way at a time.

mod action;
mod event;
mod shutdown;
mod transitions;

use std::sync::Arc;

use agentwrit_protocol::{Entropy, Sensitive};

pub use self::action::{Action, Holding, Notice};
pub use self::event::{Event, Failure, Found, Now};

use crate::schedule::{Schedule, VALIDATION};
use crate::token::Issued;

/// Seconds for which the predecessor of a renewed token still stands.
pub const OVERLAP_SECONDS: i64 = 10;
/// Longest time between two looks at the clocks.
const CLOCK_CHECK_MS: i64 = 5_000;
/// A larger disagreement of the clocks is a jump.
const JUMP_MS: i64 = 2_000;

/// The token that pod and sidecar hold now.
#[derive(Debug, Clone)]
struct Held {
    issued: Issued,
    /// Either clock past its value: expired. The wall clock catches a suspend, the other a wall clock set back.
    expires: Now,
    /// This process wrote it to the file. One that a former process wrote can't be renewed: the key is gone.
    written: bool,
    /// The pause after the first answer that it stands, when that is another than usual: a former process that wrote it
    /// may have been given another just before its end, and then it stands for the overlap only.
    recheck_ms: Option<i64>,
    /// The broker said that it no longer stands.
    known_dead: bool,
    renew_key: Option<String>,
    renewals_tried: u32,
    first_tried: Option<Now>,
    /// A proof was stale, and the next has the time of that answer.
    time_corrected: bool,
    validate_at: i64,
    write_at: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Before [`Event::Started`].
    New,
    /// Wants a first token, or another.
    Registering { at: i64 },
    /// Holds one and keeps it fresh.
    Holding { renew_at: i64 },
    /// Revoked by a person.
    Quarantined { at: i64 },
    /// Told to stop.
    Stopping { until: i64, wait: i64, release_at: i64 },
    /// Done.
    Stopped,
}

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
    phase: Phase,
    held: Option<Held>,
    under_way: Option<UnderWay>,
    failures: u32,
    write_failures: u32,
    pod_uid: String,
    last: Option<Now>,
    jumped: bool,
    told_away: bool,
}

impl Agent {
    /// A machine that draws jitter and idempotency keys from `entropy`.
    pub fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self {
            schedule: Schedule::new(entropy),
            phase: Phase::New,
            held: None,
            under_way: None,
            failures: 0,
            write_failures: 0,
            pod_uid: String::new(),
            last: None,
            jumped: false,
            told_away: false,
        }
    }

    /// The token that stands, as far as is known.
    pub fn token(&self) -> Option<&Sensitive> {
        self.held.as_ref().map(|held| &held.issued.token)
    }

    /// Whether this process has written a token that hasn't expired.
    pub fn is_ready(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.written)
    }

    /// When [`Agent::handle`] must be called at the latest, on the monotonic clock, milliseconds.
    pub fn deadline(&self) -> i64 {
        let mut soonest = self.last.map_or(0, |last| last.mono).saturating_add(CLOCK_CHECK_MS);
        let mut consider = |at: i64| soonest = soonest.min(at);
        if let Some(held) = &self.held {
            consider(held.expires.mono);
        }
        // While stopping, nothing is written or validated any more: those times would pass and never be served.
        if let Some(held) = self.held.as_ref().filter(|_| !self.is_stopping()) {
            if let Some(at) = held.write_at {
                consider(at);
            }
            if self.under_way.is_none() {
                consider(held.validate_at);
            }
        }
        match self.phase {
            Phase::Registering { at } | Phase::Holding { renew_at: at } | Phase::Quarantined { at } => {
                if self.under_way.is_none() {
                    consider(at);
                }
            }
            Phase::Stopping {
                until,
                wait,
                release_at,
            } => match self.under_way {
                None => consider(release_at.min(until)),
                Some(UnderWay {
                    request: Request::Release,
                    ..
                }) => consider(until),
                Some(_) => consider(wait),
            },
            Phase::New | Phase::Stopped => {}
        }
        soonest
    }

    /// Takes note of what happened and says what to do, in order.
    pub fn handle(&mut self, now: Now, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        self.watch_clocks(now, &mut out);
        let sent = match event {
            Event::Registered(_) | Event::Renewed(_) | Event::Validated(_) | Event::Released(_) => {
                self.under_way.take().map_or(now, |under_way| under_way.sent)
            }
            Event::Started(_) | Event::Tick | Event::Written(_) | Event::Stop => now,
        };
        match event {
            Event::Started(found) => self.started(now, found, &mut out),
            Event::Tick => {}
            Event::Registered(Ok(issued)) => self.accept(now, sent, issued, false, &mut out),
            Event::Registered(Err(failure)) => self.not_registered(now, failure, &mut out),
            Event::Renewed(Ok(issued)) => {
                // It may be the repeated answer to an earlier try, with the life of that moment.
                let since = self.held.as_ref().and_then(|held| held.first_tried).unwrap_or(sent);
                self.accept(now, since, issued, true, &mut out);
            }
            Event::Renewed(Err(failure)) => self.not_renewed(now, failure, &mut out),
            Event::Validated(result) => self.validated(now, result, &mut out),
            Event::Released(result) => self.released(now, result, &mut out),
            Event::Written(result) => self.written(now, result, &mut out),
            Event::Stop => self.stop(now, &mut out),
        }
        self.expire(now, &mut out);
        self.proceed(now, &mut out);
        out
    }

    fn watch_clocks(&mut self, now: Now, out: &mut Vec<Action>) {
        if let Some(last) = self.last {
            let millis = (now.wall - last.wall) - (now.mono - last.mono);
            if millis.abs() > JUMP_MS {
                out.push(Action::Tell(Notice::ClockJumped { millis }));
                if let Phase::Holding { renew_at } = &mut self.phase {
                    *renew_at = now.mono;
                    self.jumped = true;
                }
            }
        }
        self.last = Some(now);
    }

    fn started(&mut self, now: Now, found: Found, out: &mut Vec<Action>) {
        self.phase = Phase::Registering { at: now.mono };
        match found {
            Found::Nothing => {}
            Found::Token(issued) if issued.exp.saturating_mul(1_000) > now.wall => {
                let left = issued.exp.saturating_mul(1_000).saturating_sub(now.wall);
                out.push(Action::Tell(Notice::Found {
                    seconds_left: left / 1_000,
                }));
                self.pod_uid.clone_from(&issued.task_id);
                self.held = Some(Held {
                    expires: Now {
                        wall: now.wall.saturating_add(left),
                        mono: now.mono.saturating_add(left),
                    },
                    issued,
                    written: false,
                    recheck_ms: Some(OVERLAP_SECONDS * 1_000),
                    known_dead: false,
                    renew_key: None,
                    renewals_tried: 0,
                    first_tried: None,
                    time_corrected: false,
                    validate_at: now.mono,
                    write_at: None,
                });
            }
            Found::Token(_) | Found::Invalid => {
                out.push(Action::Tell(Notice::FoundInvalid));
                out.push(Action::Remove);
            }
        }
    }

    /// Drops the token when either clock says that it has expired.
    fn expire(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(held) = &self.held else { return };
        // After a jump the renewal tells whether time passed or only the clock moved.
        let renewal_tells = self.jumped && now.mono < held.expires.mono;
        if (now.mono < held.expires.mono && now.wall < held.expires.wall) || renewal_tells {
            return;
        }
        self.drop_token("it has expired", out);
        if let Phase::Holding { .. } = self.phase {
            self.phase = Phase::Registering { at: now.mono };
        }
    }

    fn drop_token(&mut self, reason: &'static str, out: &mut Vec<Action>) {
        if self.held.take().is_some() {
            out.push(Action::Remove);
            out.push(Action::Tell(Notice::Dropped { reason }));
        }
    }

    /// Starts what is due.
    fn proceed(&mut self, now: Now, out: &mut Vec<Action>) {
        if let Phase::Stopping { .. } | Phase::Stopped = self.phase {
            return self.proceed_stopping(now, out);
        }
        if let Some(held) = &mut self.held
            && held.write_at.is_some_and(|at| now.mono >= at)
        {
            held.write_at = None;
            out.push(Action::Write(held.issued.token.clone()));
        }
        if self.under_way.is_some() {
            return;
        }
        let doubted = self.held.as_ref().is_some_and(|held| now.mono >= held.validate_at);
        match self.phase {
            // Whether the token in the file still stands is asked before another one is: a dead one goes at once.
            Phase::Registering { at } | Phase::Quarantined { at } if now.mono >= at && !doubted => {
                self.send(now, Request::Register);
                out.push(Action::Register);
            }
            Phase::Holding { renew_at } if now.mono >= renew_at => self.renew(now, out),
            _ => self.validate(now, out),
        }
    }

    fn renew(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(held) = &mut self.held else {
            self.phase = Phase::Registering { at: now.mono };
            return;
        };
        held.renewals_tried = held.renewals_tried.saturating_add(1);
        held.first_tried.get_or_insert(now);
        if held.renew_key.is_none() {
            held.renew_key = self.schedule.random_key();
        }
        out.push(Action::Renew {
            held: Box::new(held.issued.clone()),
            idempotency_key: held.renew_key.clone(),
        });
        self.send(now, Request::Renew);
    }

    fn validate(&mut self, now: Now, out: &mut Vec<Action>) {
        if let Some(held) = &self.held
            && now.mono >= held.validate_at
        {
            out.push(Action::Validate(held.issued.token.clone()));
            self.send(now, Request::Validate);
        }
    }

    fn send(&mut self, now: Now, request: Request) {
        self.under_way = Some(UnderWay { request, sent: now });
    }

    /// A token from the broker: keep it, write it, plan its renewal. Its life counts from when it was asked for.
    fn accept(&mut self, now: Now, sent: Now, issued: Issued, renewed: bool, out: &mut Vec<Action>) {
        let life = issued.life.saturating_mul(1_000);
        let holding = Holding {
            agent_id: issued.agent_id.clone(),
            scopes: issued.scopes,
            exp: issued.exp,
        };
        self.pod_uid.clone_from(&issued.task_id);
        self.failures = 0;
        self.jumped = false;
        self.told_away = false;
        if !self.is_stopping() {
            let share = self.schedule.between(750, 850);
            self.phase = Phase::Holding {
                renew_at: sent.mono.saturating_add(life.saturating_mul(share) / 1_000),
            };
        }
        self.held = Some(Held {
            issued,
            expires: Now {
                wall: sent.wall.saturating_add(life),
                mono: sent.mono.saturating_add(life),
            },
            written: false,
            recheck_ms: None,
            known_dead: false,
            renew_key: None,
            renewals_tried: 0,
            first_tried: None,
            time_corrected: false,
            validate_at: now.mono + self.schedule.draw(VALIDATION),
            write_at: Some(now.mono),
        });
        out.push(Action::Tell(if renewed {
            Notice::Renewed(holding)
        } else {
            Notice::Registered(holding)
        }));
    }

    fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping { .. } | Phase::Stopped)
    }
}
