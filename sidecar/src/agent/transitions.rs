//! What the broker's answers mean.

use agentwrit_client::Class;
use agentwrit_protocol::ErrorCode;

use super::{Action, Agent, Failure, Notice, Now, Phase};
use crate::schedule::{AWAY_CAP_MS, QUARANTINE, REFUSED_CAP_MS, VALIDATION};

/// Shortest pause between renewals near a token's end.
const LAST_TRIES_MS: i64 = 500;

impl Agent {
    pub(super) fn not_registered(&mut self, now: Now, failure: Failure, out: &mut Vec<Action>) {
        self.failures = self.failures.saturating_add(1);
        if self.is_stopping() {
            return;
        }
        if failure.class == Class::Denied(ErrorCode::Revoked) {
            self.drop_token("a person revoked this pod's agent", out);
            return self.quarantine(now, out);
        }
        let pause = match (self.phase, failure.class) {
            (Phase::Quarantined { .. }, _) => self.schedule.draw(QUARANTINE),
            (_, Class::Retry(after)) => self.schedule.back_off(self.failures, AWAY_CAP_MS, after),
            (_, Class::RateLimited(after)) => self.schedule.back_off(self.failures, REFUSED_CAP_MS, after),
            (_, Class::Denied(_)) => self.schedule.back_off(self.failures, REFUSED_CAP_MS, None),
        };
        let at = now.mono.saturating_add(pause);
        self.phase = match self.phase {
            Phase::Quarantined { .. } => Phase::Quarantined { at },
            _ => Phase::Registering { at },
        };
        if let (Class::Denied(_) | Class::RateLimited(_), Some(held)) = (failure.class, &mut self.held) {
            // No other is to be had, or not soon: find out whether the old one stands.
            held.validate_at = now.mono;
        }
        out.push(Action::Tell(told(failure, pause)));
    }

    pub(super) fn not_renewed(&mut self, now: Now, failure: Failure, out: &mut Vec<Action>) {
        self.failures = self.failures.saturating_add(1);
        self.jumped = false;
        if self.is_stopping() {
            return;
        }
        // When it expired meanwhile, nothing of it is left to renew.
        let Some(held) = &mut self.held else { return };
        let (uncertain, known_dead, expires) = (held.renewals_tried > 1, held.known_dead, held.expires.mono);
        let code = match failure.class {
            // The refusal told the broker's time: once more with that, at once. Nothing was spent.
            Class::Denied(ErrorCode::ProofStale) if !held.time_corrected => {
                held.time_corrected = true;
                held.renewals_tried = held.renewals_tried.saturating_sub(1);
                self.phase = Phase::Holding { renew_at: now.mono };
                out.push(Action::Tell(told(failure, 0)));
                return;
            }
            Class::Denied(code) => code,
            Class::Retry(after) | Class::RateLimited(after) => {
                let cap = (expires.saturating_sub(now.mono) / 4).clamp(LAST_TRIES_MS, AWAY_CAP_MS);
                let pause = self.schedule.back_off(self.failures, cap, after);
                self.phase = Phase::Holding {
                    renew_at: now.mono.saturating_add(pause),
                };
                out.push(Action::Tell(told(failure, pause)));
                return;
            }
        };
        let pause = match code {
            ErrorCode::Revoked
            | ErrorCode::Superseded
            | ErrorCode::PolicyChanged
            | ErrorCode::Unauthorized
            | ErrorCode::NotFound => 0,
            _ => self.schedule.back_off(1, REFUSED_CAP_MS, None),
        };
        // The broker may have renewed for a try whose answer was lost: our token then is a dead predecessor, which isn't
        // a person's decision. The launch that follows tells.
        if code == ErrorCode::Revoked && !uncertain {
            self.drop_token("a person revoked this pod's agent", out);
            return self.quarantine(now, out);
        }
        out.push(Action::Tell(told(failure, pause)));
        // A refusal says that it isn't renewed, not that it doesn't stand.
        if known_dead {
            self.drop_token("the broker no longer accepts it", out);
        } else if let Some(held) = &mut self.held {
            held.validate_at = now.mono;
        }
        self.failures = 0;
        self.phase = Phase::Registering {
            at: now.mono.saturating_add(pause),
        };
    }

    pub(super) fn validated(&mut self, now: Now, result: Result<bool, Failure>, out: &mut Vec<Action>) {
        let pause = self.schedule.draw(VALIDATION);
        let Some(held) = &mut self.held else { return };
        held.validate_at = now.mono.saturating_add(pause);
        match result {
            Ok(true) => {
                self.told_away = false;
                if let Some(pause) = held.recheck_ms.take() {
                    held.validate_at = now.mono.saturating_add(pause);
                }
            }
            Ok(false) => {
                held.known_dead = true;
                match &mut self.phase {
                    Phase::Holding { renew_at } => {
                        *renew_at = now.mono;
                        out.push(Action::Tell(Notice::NoLongerValid));
                    }
                    _ => self.drop_token("the broker no longer accepts it", out),
                }
            }
            Err(failure) => {
                if !self.told_away {
                    self.told_away = true;
                    out.push(Action::Tell(told(failure, pause)));
                }
            }
        }
    }

    pub(super) fn written(&mut self, now: Now, result: Result<(), String>, out: &mut Vec<Action>) {
        let Some(held) = &mut self.held else {
            // It was dropped between the order and the deed.
            out.push(Action::Remove);
            return;
        };
        match result {
            Ok(()) => {
                self.write_failures = 0;
                held.written = true;
            }
            Err(reason) => {
                self.write_failures = self.write_failures.saturating_add(1);
                let retry_ms = self.schedule.back_off(self.write_failures, AWAY_CAP_MS, None);
                held.write_at = Some(now.mono.saturating_add(retry_ms));
                out.push(Action::Tell(Notice::WriteFailed { reason, retry_ms }));
            }
        }
    }

    fn quarantine(&mut self, now: Now, out: &mut Vec<Action>) {
        let pause = self.schedule.draw(QUARANTINE);
        if !matches!(self.phase, Phase::Quarantined { .. }) {
            out.push(Action::Tell(Notice::Quarantined {
                pod_uid: self.pod_uid.clone(),
            }));
        }
        self.phase = Phase::Quarantined {
            at: now.mono.saturating_add(pause),
        };
    }
}

fn told(failure: Failure, retry_ms: i64) -> Notice {
    let Failure {
        request,
        class,
        symptom,
        text,
    } = failure;
    match class {
        Class::Denied(code) => Notice::Refused {
            request,
            code,
            detail: text,
            retry_ms,
        },
        Class::Retry(_) | Class::RateLimited(_) => Notice::Trouble {
            request,
            symptom,
            text,
            retry_ms,
        },
    }
}
