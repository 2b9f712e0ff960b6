//! SIGTERM: give the token back, remove the file, end.

use agentwrit_client::Class;

use super::{Action, Agent, Failure, Notice, Now, Phase, Request};

/// All of it together.
const STOP_MS: i64 = 8_000;
/// For the answer of a request that may bring a token that nobody would release.
const WAIT_MS: i64 = 3_000;
/// Between two tries to release.
const AGAIN_MS: i64 = 1_000;

impl Agent {
    pub(super) fn stop(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.is_stopping() {
            return;
        }
        out.push(Action::Tell(Notice::Stopping));
        self.phase = Phase::Stopping {
            until: now.mono.saturating_add(STOP_MS),
            wait: now.mono.saturating_add(WAIT_MS),
            release_at: now.mono,
        };
    }

    pub(super) fn proceed_stopping(&mut self, now: Now, out: &mut Vec<Action>) {
        let Phase::Stopping {
            until,
            wait,
            release_at,
        } = self.phase
        else {
            return;
        };
        if now.mono >= until {
            return self.end(out);
        }
        match self.under_way.map(|under_way| under_way.request) {
            Some(Request::Release) => return,
            Some(Request::Register | Request::Renew) if now.mono < wait => return,
            Some(Request::Register | Request::Renew | Request::Validate) | None => {}
        }
        let Some(held) = &self.held else { return self.end(out) };
        if now.mono >= release_at {
            out.push(Action::Release(held.issued.token.clone()));
            self.send(now, Request::Release);
        }
    }

    pub(super) fn released(&mut self, now: Now, result: Result<(), Failure>, out: &mut Vec<Action>) {
        let Phase::Stopping { until, wait, .. } = self.phase else {
            return;
        };
        match result {
            Ok(()) => out.push(Action::Tell(Notice::Released)),
            Err(failure) => {
                let again = now.mono.saturating_add(AGAIN_MS);
                if !matches!(failure.class, Class::Denied(_)) && again < until {
                    self.phase = Phase::Stopping {
                        until,
                        wait,
                        release_at: again,
                    };
                    return;
                }
                out.push(Action::Tell(Notice::NotReleased { reason: failure.text }));
            }
        }
        self.end(out);
    }

    fn end(&mut self, out: &mut Vec<Action>) {
        self.held = None;
        self.under_way = None;
        self.phase = Phase::Stopped;
        out.push(Action::Remove);
        out.push(Action::Exit);
    }
}
