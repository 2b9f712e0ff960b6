//! A wall clock that is another machine's: several replicas that use one database date by its clock, so that none contradicts the
//! others when its own jumps.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ::time::OffsetDateTime;

use crate::clock::Clock;
use crate::time::UnixMillis;

/// A difference between what is heard and what was expected that is no step of a clock, but the time that answers take.
const JITTER: Duration = Duration::from_millis(50);
/// An answer that took longer says too little about the time.
const LONGEST_ANSWER: Duration = Duration::from_secs(1);
/// A machine's own clock that is further away than this is wrong.
pub const LONGEST_SKEW: Duration = Duration::from_mins(1);

/// The wall clock of a reference, carried on by this machine's monotonic clock since it was heard last. Before it was heard the
/// machine's own wall clock.
pub struct SteeredClock {
    own: Arc<dyn Clock>,
    /// The reference's time at the moment when the monotonic clock stood at zero, Unix nanoseconds.
    start: AtomicI64,
}

/// Nothing was heard.
const UNHEARD: i64 = i64::MIN;

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

impl SteeredClock {
    /// A clock that is this machine's until it hears of another.
    pub fn new(own: Arc<dyn Clock>) -> Self {
        Self {
            own,
            start: AtomicI64::new(UNHEARD),
        }
    }

    /// Takes note of the reference's time, which was asked for and answered at these monotonic moments. Whether it is the first
    /// time.
    pub fn hear(&self, reference: UnixMillis, asked: Duration, answered: Duration) -> bool {
        let took = answered.saturating_sub(asked);
        let before = self.start.load(Ordering::SeqCst);
        if before != UNHEARD && took > LONGEST_ANSWER {
            return false;
        }
        let reference = reference.get().saturating_mul(1_000_000);
        let start = reference.saturating_sub(nanos(asked + took / 2));
        if before == UNHEARD || before.abs_diff(start) > u64::try_from(nanos(JITTER + took / 2)).unwrap_or(u64::MAX) {
            self.start.store(start, Ordering::SeqCst);
        }
        before == UNHEARD
    }

    /// How far this machine's own wall clock is from the reference's, and whether it is ahead, when that is too far.
    pub fn skew(&self) -> Option<(Duration, bool)> {
        if self.start.load(Ordering::SeqCst) == UNHEARD {
            return None;
        }
        let (own, reference) = (self.own.now(), self.now());
        let skew = (own - reference).unsigned_abs();
        (skew > LONGEST_SKEW).then_some((skew, own > reference))
    }
}

impl Clock for SteeredClock {
    fn now(&self) -> OffsetDateTime {
        match self.start.load(Ordering::SeqCst) {
            UNHEARD => self.own.now(),
            start => {
                let now = i128::from(start) + i128::from(nanos(self.own.monotonic()));
                OffsetDateTime::from_unix_timestamp_nanos(now).unwrap_or_else(|_| self.own.now())
            }
        }
    }

    fn monotonic(&self) -> Duration {
        self.own.monotonic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    /// The reference is an hour ahead of the machine.
    fn clocks() -> (Arc<ManualClock>, SteeredClock, UnixMillis) {
        let own = Arc::new(ManualClock::at(1_000_000));
        let steered = SteeredClock::new(Arc::<ManualClock>::clone(&own));
        (own, steered, UnixMillis::new(1_003_600_000))
    }

    fn hear(own: &ManualClock, steered: &SteeredClock, reference: UnixMillis) -> bool {
        steered.hear(reference, own.monotonic(), own.monotonic())
    }

    #[test]
    fn before_it_has_heard_the_own_clock_counts() {
        let (own, steered, _) = clocks();
        assert_eq!((steered.now(), steered.skew()), (own.now(), None));
    }

    #[test]
    fn a_jump_of_the_own_clock_changes_nothing_but_the_skew() {
        let (own, steered, reference) = clocks();
        assert!(hear(&own, &steered, reference));
        assert_eq!(steered.unix_millis(), reference);
        assert_eq!(steered.skew(), Some((Duration::from_hours(1), false)));
        own.jump(2 * 3600);
        own.advance(5);
        assert_eq!(steered.unix_millis(), reference + Duration::from_secs(5));
        assert_eq!(steered.skew(), Some((Duration::from_hours(1), true)));
        own.jump(-3600);
        assert_eq!(steered.skew(), None);
    }

    #[test]
    fn a_step_of_the_reference_is_followed_and_jitter_is_not() {
        let (own, steered, reference) = clocks();
        hear(&own, &steered, reference);
        assert!(!hear(&own, &steered, reference + Duration::from_millis(50)));
        assert_eq!(steered.unix_millis(), reference);
        hear(&own, &steered, reference + Duration::from_millis(51));
        assert_eq!(steered.unix_millis(), reference + Duration::from_millis(51));
        hear(&own, &steered, reference - Duration::from_secs(10));
        assert_eq!(steered.unix_millis(), reference - Duration::from_secs(10));
    }

    #[test]
    fn an_answer_that_took_long_is_taken_at_first_only() {
        let (own, steered, reference) = clocks();
        let asked = own.monotonic();
        own.advance(2);
        assert!(steered.hear(reference, asked, own.monotonic()));
        assert_eq!(
            steered.unix_millis(),
            reference + Duration::from_secs(1),
            "in the middle"
        );
        steered.hear(reference + Duration::from_mins(5), asked, own.monotonic());
        assert_eq!(steered.unix_millis(), reference + Duration::from_secs(1));
    }
}
