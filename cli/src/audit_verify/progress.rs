//! A progress line every two seconds while a command takes long.

use std::time::Duration;

use agentwrit_protocol::Clock;

/// Between two lines, and before the first.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

/// Decides when to write how far a walk is.
pub(crate) struct Progress<'a> {
    clock: &'a dyn Clock,
    next: Duration,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(clock: &'a dyn Clock) -> Self {
        Self {
            clock,
            next: clock.monotonic().saturating_add(LINE_INTERVAL),
        }
    }

    /// The line to print now, if it is time for one.
    pub(crate) fn line(&mut self, done: i64, total: Option<i64>) -> Option<String> {
        let now = self.clock.monotonic();
        if now < self.next {
            return None;
        }
        self.next = now.saturating_add(LINE_INTERVAL);
        Some(match total {
            Some(total) => format!("{done} of {total} events ..."),
            None => format!("{done} events ..."),
        })
    }
}

#[cfg(test)]
mod tests {
    use agentwrit_protocol::clock::ManualClock;

    use super::*;

    #[test]
    fn a_line_comes_after_two_seconds_and_then_every_two() {
        let clock = ManualClock::at(100);
        let mut progress = Progress::new(&clock);
        let mut said = Vec::new();
        for done in 0..6 {
            said.extend(progress.line(done, Some(10)));
            clock.advance(1);
        }
        assert_eq!(said, ["2 of 10 events ...", "4 of 10 events ..."]);
        assert_eq!(progress.line(7, None).unwrap(), "7 events ...");
    }
}
