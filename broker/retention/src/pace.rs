//! How fast segments go by age: a clock that is wrong must not take the whole trail before anybody looks.

use std::time::Duration;

use agentwrit_protocol::judging::LONGEST_STEP;
use agentwrit_protocol::{Times, UnixMillis};

use agentwrit_store::Segment;

/// Nothing goes by age for so long after the start, and after a step of the clock was believed.
const QUIET: Duration = Duration::from_hours(1);
/// The longest time from one to the next.
const BETWEEN: Duration = Duration::from_mins(5);

/// What is remembered of the clock and of the last segment that went by age. Moments are monotonic.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the monotonic clock stood at zero, by the wall clock that is believed.
    start: Option<UnixMillis>,
    stepped: Option<Duration>,
    dropped: Option<Duration>,
    /// Whether the log has the warning that several are due.
    pub(super) warned: bool,
}

/// For how long none has gone by age; `None` while none may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rested(Option<Duration>);

impl Pace {
    /// Looks at the clocks.
    pub(super) fn look(&mut self, times: Times, now: Duration) {
        let start = times.passed() - now;
        if self.start.is_some_and(|before| start.since(before) > LONGEST_STEP) {
            self.stepped = Some(now);
        }
        self.start = Some(start);
    }

    pub(super) fn dropped(&mut self, now: Duration) {
        self.dropped = Some(now);
    }

    /// How things stand at this moment in a process that was started at that one.
    pub(super) fn rested(&self, started: Duration, now: Duration) -> Rested {
        let since = self.stepped.map_or(started, |stepped| stepped.max(started));
        let rested = self
            .dropped
            .map_or(Duration::MAX, |dropped| now.saturating_sub(dropped));
        Rested((now.saturating_sub(since) >= QUIET).then_some(rested))
    }
}

impl Rested {
    /// Whether this segment may go by age. Half of the time that its events span is enough, so that a trail that grows
    /// fast is dropped as fast.
    pub(super) fn enough_for(self, segment: &Segment) -> bool {
        let span = segment.last_at.since(segment.first_at);
        let half = if span.is_zero() { BETWEEN } else { span / 2 };
        self.0.is_some_and(|rested| rested >= half.min(BETWEEN))
    }
}

#[cfg(test)]
mod tests {
    use agentwrit_protocol::{UnixNanos, UnixSeconds};

    use super::*;

    fn spanning(nanos: i64) -> Segment {
        Segment {
            first: 1,
            last: 9,
            bytes: 7,
            first_at: UnixNanos::new(0),
            last_at: UnixNanos::new(nanos),
            first_hash: String::new(),
            head: String::new(),
            exported: None,
        }
    }

    #[test]
    fn none_goes_in_the_first_hour_of_a_process_or_of_a_step() {
        let at = |seconds: u64| Duration::from_secs(seconds);
        let wall = |seconds: i64| Times::at(UnixSeconds::new(seconds).start());
        let mut pace = Pace::default();
        pace.look(wall(1_000_100), at(100));
        for (now, goes) in [(100, false), (3_699, false), (3_700, true)] {
            assert_eq!(pace.rested(at(100), at(now)).enough_for(&spanning(1)), goes, "{now}");
        }
        // Sixty seconds are no step, and sixty-one are one.
        pace.look(wall(1_003_800 + 60), at(3_800));
        assert!(pace.rested(at(100), at(3_800)).enough_for(&spanning(1)));
        pace.look(wall(1_003_900 + 121), at(3_900));
        for (now, goes) in [(3_900, false), (7_499, false), (7_500, true)] {
            assert_eq!(pace.rested(at(100), at(now)).enough_for(&spanning(1)), goes, "{now}");
        }
    }

    #[test]
    fn a_trail_that_grows_fast_is_dropped_as_fast() {
        let second = 1_000_000_000;
        let mut pace = Pace::default();
        pace.dropped(Duration::from_hours(2));
        for (span, wait) in [(60 * second, 30), (86_400 * second, 300), (0, 300), (-5 * second, 300)] {
            for (seconds, goes) in [(wait - 1, false), (wait, true)] {
                let now = Duration::from_hours(2) + Duration::from_secs(seconds);
                assert_eq!(
                    pace.rested(Duration::ZERO, now).enough_for(&spanning(span)),
                    goes,
                    "{span}"
                );
            }
        }
    }
}
