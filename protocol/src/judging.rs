//! The time that tokens are judged by: a wall clock that jumps revives nothing.
//!
//! Tokens are issued by the wall clock. Whether one has expired, or an overlap is over, is judged by the later of the wall
//! clock and the **high-water mark**: the latest time that was ever believed. Between two looks at the wall clock the mark
//! moves with the monotonic clock, so setting the wall clock back stretches no life.
//!
//! The mark is never behind the wall clock by more than a step that has yet to prove itself: when the wall clock jumps
//! forward by more than [`LONGEST_STEP_MILLIS`], the mark takes that over only after [`STEP_STANDS_MILLIS`]. A machine that
//! boots with a wrong date and is corrected soon after thus leaves no trace in the mark.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Clock;

/// A forward step of the wall clock beyond this is believed only after it has stood for a while, milliseconds.
pub const LONGEST_STEP_MILLIS: i64 = 60_000;
/// How long a forward step must stand, milliseconds of monotonic time.
pub const STEP_STANDS_MILLIS: i64 = 600_000;
/// A mark that is further ahead of the wall clock than this says that one of the two is wrong, milliseconds.
pub const LONGEST_LAG_MILLIS: i64 = 300_000;

/// There is no mark, or no step, yet.
const NONE: i64 = i64::MIN;

/// One look at the clocks. Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The wall clock: by it tokens are issued.
    pub wall: i64,
    /// The high-water mark.
    pub mark: i64,
    /// The latest of wall clock, mark, and a step that has yet to prove itself: by it tokens are judged.
    pub judged: i64,
}

impl Times {
    /// Clocks that agree.
    pub const fn at(millis: i64) -> Self {
        Self {
            wall: millis,
            mark: millis,
            judged: millis,
        }
    }

    /// What both clocks have passed: what ended before it can't come back by a jump of one of them.
    pub fn passed(&self) -> i64 {
        self.wall.min(self.mark)
    }

    /// Whether the wall clock is so far behind the mark that nothing can be issued by it.
    pub fn is_behind(&self) -> bool {
        self.mark.saturating_sub(self.wall) > LONGEST_LAG_MILLIS
    }
}

/// Wall clock and high-water mark together. Reading takes no lock unless the mark has to move.
pub struct JudgingClock {
    clock: Arc<dyn Clock>,
    /// What the mark is ahead of the monotonic clock.
    mark: AtomicI64,
    /// The same of a forward step that has yet to prove itself.
    step: AtomicI64,
    /// Since when that step has stood, monotonic milliseconds. Held while mark or step change.
    step_since: Mutex<i64>,
}

fn later(offset: i64, monotonic: i64) -> i64 {
    if offset == NONE {
        NONE
    } else {
        monotonic.saturating_add(offset)
    }
}

impl JudgingClock {
    /// A clock without a mark: until one is loaded the wall clock is believed.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            mark: AtomicI64::new(NONE),
            step: AtomicI64::new(NONE),
            step_since: Mutex::new(0),
        }
    }

    fn clocks(&self) -> (i64, i64) {
        let monotonic = i64::try_from(self.clock.monotonic().as_millis()).unwrap_or(i64::MAX);
        (self.clock.unix_millis(), monotonic)
    }

    /// Takes the mark of a store over, Unix milliseconds; without one the wall clock is the first mark. A mark that is
    /// later already stays.
    pub fn load(&self, stored: Option<i64>) {
        let (wall, monotonic) = self.clocks();
        let _moving = self.step_since.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = stored.unwrap_or(wall).saturating_sub(monotonic);
        self.mark.fetch_max(offset, Ordering::SeqCst);
    }

    /// A person says that the wall clock is right: it is the mark from now on.
    pub fn accept_wall(&self) {
        let (wall, monotonic) = self.clocks();
        let _moving = self.step_since.lock().unwrap_or_else(PoisonError::into_inner);
        self.mark.store(wall.saturating_sub(monotonic), Ordering::SeqCst);
        self.step.store(NONE, Ordering::SeqCst);
    }

    /// Looks at the clocks. Whatever is judged by the answer calls this anew: the mark follows what it sees.
    pub fn times(&self) -> Times {
        let (wall, monotonic) = self.clocks();
        let times = self.read(wall, monotonic);
        let is_ahead = wall > times.mark && wall >= times.judged;
        let taken_back = times.judged > times.mark && times.judged.saturating_sub(wall) > LONGEST_LAG_MILLIS;
        if (is_ahead || taken_back) && self.mark.load(Ordering::SeqCst) != NONE {
            self.follow(wall, monotonic);
            return self.read(wall, monotonic);
        }
        times
    }

    /// The same, and looks whether a step has stood long enough. To be called now and then, also when nothing is judged.
    pub fn observe(&self) -> Times {
        let (wall, monotonic) = self.clocks();
        if self.mark.load(Ordering::SeqCst) != NONE {
            self.follow(wall, monotonic);
        }
        self.read(wall, monotonic)
    }

    fn read(&self, wall: i64, monotonic: i64) -> Times {
        let mark = later(self.mark.load(Ordering::SeqCst), monotonic);
        let step = later(self.step.load(Ordering::SeqCst), monotonic);
        let mark = if mark == NONE { wall } else { mark };
        Times {
            wall,
            mark,
            judged: wall.max(mark).max(step),
        }
    }

    /// Moves the mark as far as the wall clock is believed.
    fn follow(&self, wall: i64, monotonic: i64) {
        let mut since = self.step_since.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = wall.saturating_sub(monotonic);
        let step = self.step.load(Ordering::SeqCst);
        if step != NONE {
            let taken_back = step.saturating_sub(ahead) > LONGEST_LAG_MILLIS;
            let stood = monotonic.saturating_sub(*since) >= STEP_STANDS_MILLIS;
            if taken_back {
                self.step.store(NONE, Ordering::SeqCst);
            } else if stood {
                self.mark.fetch_max(step, Ordering::SeqCst);
                self.step.store(NONE, Ordering::SeqCst);
            } else if ahead.saturating_sub(step) <= LONGEST_STEP_MILLIS {
                self.step.fetch_max(ahead, Ordering::SeqCst);
                return;
            }
        }
        let mark = self.mark.load(Ordering::SeqCst);
        if ahead.saturating_sub(mark) <= LONGEST_STEP_MILLIS {
            self.mark.fetch_max(ahead, Ordering::SeqCst);
        } else {
            self.step.store(ahead, Ordering::SeqCst);
            *since = monotonic;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::ManualClock;

    const START: i64 = 1_800_000_000;

    fn clocks() -> (Arc<ManualClock>, JudgingClock) {
        let manual = Arc::new(ManualClock::at(START));
        let judging = JudgingClock::new(Arc::<ManualClock>::clone(&manual));
        judging.load(None);
        (manual, judging)
    }

    /// Seconds since the start: wall clock, mark, what is judged by.
    fn seconds(times: Times) -> (i64, i64, i64) {
        let since = |millis: i64| millis / 1000 - START;
        (since(times.wall), since(times.mark), since(times.judged))
    }

    #[test]
    fn a_wall_clock_set_back_stretches_nothing() {
        let (manual, judging) = clocks();
        manual.jump(-100);
        assert_eq!(seconds(judging.times()), (-100, 0, 0));
        manual.advance(7);
        assert_eq!(seconds(judging.times()), (-93, 7, 7));
        assert!(!judging.times().is_behind());
        manual.jump(-201);
        assert!(judging.times().is_behind());
    }

    #[test]
    fn a_small_clock_step_is_accepted_at_once() {
        let (manual, judging) = clocks();
        manual.jump(60);
        assert_eq!(seconds(judging.times()), (60, 60, 60));
        manual.jump(-60);
        assert_eq!(seconds(judging.times()), (0, 60, 60));
    }

    #[test]
    fn a_large_clock_step_must_last_for_ten_minutes() {
        let (manual, judging) = clocks();
        manual.jump(3600);
        assert_eq!(seconds(judging.times()), (3600, 0, 3600));
        // Within the longest lag it still counts.
        manual.jump(-299);
        assert_eq!(seconds(judging.observe()), (3301, 0, 3600));
        manual.advance(599);
        assert_eq!(seconds(judging.observe()), (3900, 599, 4199));
        manual.advance(1);
        assert_eq!(seconds(judging.observe()), (3901, 4200, 4200));
    }

    #[test]
    fn a_large_step_that_is_taken_back_leaves_no_trace() {
        let (manual, judging) = clocks();
        manual.jump(365 * 86_400);
        judging.times();
        manual.advance(500);
        manual.jump(-365 * 86_400);
        assert_eq!(seconds(judging.observe()), (500, 500, 500));
        // Corrected to what is still ahead of the mark: that is the step now.
        manual.jump(365 * 86_400);
        judging.times();
        manual.jump(-364 * 86_400);
        assert_eq!(seconds(judging.observe()), (86_900, 500, 86_900));
        manual.advance(599);
        assert_eq!(seconds(judging.observe()).1, 1099);
        manual.advance(1);
        assert_eq!(seconds(judging.observe()).1, 87_500);
    }

    #[test]
    fn a_second_large_clock_step_must_last_by_itself() {
        let (manual, judging) = clocks();
        manual.jump(3600);
        judging.times();
        manual.advance(500);
        manual.jump(86_400);
        judging.times();
        manual.advance(500);
        assert_eq!(seconds(judging.observe()), (91_000, 1000, 91_000));
        manual.advance(100);
        assert_eq!(seconds(judging.observe()).1, 91_100);
    }

    #[test]
    fn a_stored_mark_goes_on_with_the_monotonic_clock() {
        let manual = Arc::new(ManualClock::at(START));
        let judging = JudgingClock::new(Arc::<ManualClock>::clone(&manual));
        assert_eq!(seconds(judging.times()), (0, 0, 0), "nothing is known yet");
        manual.jump(100);
        assert_eq!(seconds(judging.observe()), (100, 100, 100), "nothing is known yet");
        judging.load(Some((START - 5000) * 1000));
        assert_eq!(seconds(judging.times()), (100, -5000, 100), "the broker was down");
        judging.load(Some((START + 400) * 1000));
        judging.load(Some(START * 1000));
        assert_eq!(seconds(judging.times()), (100, 400, 400), "the later one stays");
        manual.advance(5);
        assert_eq!(seconds(judging.times()), (105, 405, 405));
        judging.accept_wall();
        assert_eq!(seconds(judging.times()), (105, 105, 105));
    }

    proptest! {
        /// Whatever the wall clock does: the mark is never behind what has passed since it was last seen, and takes no
        /// step over that has not stood. What is judged by goes back only where a large step is taken back.
        #[test]
        fn the_time_mark_never_goes_back_or_follows_a_young_step(
            moves in prop::collection::vec((0_i64..900, prop_oneof![4 => Just(0_i64), 2 => -90_i64..90, 1 => -100_000_i64..100_000]), 1..60)
        ) {
            let (manual, judging) = clocks();
            let mut before = judging.times();
            let mut step_age = 0;
            for (passes, jumps) in moves {
                manual.advance(passes);
                manual.jump(jumps);
                let now = judging.observe();
                prop_assert_eq!(now, judging.times(), "a look changes nothing");
                let passed = passes * 1000;
                prop_assert!(now.mark >= before.mark + passed);
                prop_assert!(now.judged >= now.wall && now.judged >= now.mark);
                step_age = if before.judged > before.mark { step_age + passes } else { 0 };
                let small = before.mark + passed + LONGEST_STEP_MILLIS;
                let stood = step_age >= 600 && now.mark <= before.judged + passed + LONGEST_STEP_MILLIS;
                prop_assert!(now.mark <= small || stood, "{before:?} {now:?}");
                if now.judged < before.judged + passed {
                    let fell = before.judged + passed - now.wall;
                    prop_assert!(fell > LONGEST_LAG_MILLIS && before.judged > before.mark, "{before:?} {now:?}");
                }
                before = now;
            }
        }
    }
}
