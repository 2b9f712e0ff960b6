//! The time that tokens are judged by: a wall clock that jumps revives nothing.
//!
//! Tokens are issued by the wall clock. Whether one has expired, or an overlap is over, is judged by the later of the wall
//! clock and the **high-water mark**: the latest time that was ever believed. Between two looks at the wall clock the mark
//! moves with the monotonic clock, so setting the wall clock back stretches no life.
//!
//! The mark is never behind the wall clock by more than a step that has yet to prove itself: when the wall clock jumps
//! forward by more than [`LONGEST_STEP`], the mark takes that over only after [`STEP_STANDS`]. A machine that
//! boots with a wrong date and is corrected soon after thus leaves no trace in the mark.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::time::UnixMillis;

/// A forward step of the wall clock beyond this is believed only after it has stood for a while.
pub const LONGEST_STEP: Duration = Duration::from_mins(1);
/// How long a forward step must stand, by the monotonic clock.
pub const STEP_STANDS: Duration = Duration::from_mins(10);
/// A mark that is further ahead of the wall clock than this says that one of the two is wrong.
pub const LONGEST_LAG: Duration = Duration::from_mins(5);

/// One look at the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The wall clock: by it tokens are issued.
    pub wall: UnixMillis,
    /// The high-water mark.
    pub mark: UnixMillis,
    /// The latest of wall clock, mark, and a step that has yet to prove itself: by it tokens are judged.
    pub judged: UnixMillis,
}

impl Times {
    /// Clocks that agree.
    pub const fn at(moment: UnixMillis) -> Self {
        Self {
            wall: moment,
            mark: moment,
            judged: moment,
        }
    }

    /// What both clocks have passed: what ended before it can't come back by a jump of one of them.
    pub fn passed(&self) -> UnixMillis {
        self.wall.min(self.mark)
    }

    /// Whether the wall clock is so far behind the mark that nothing can be issued by it.
    pub fn is_behind(&self) -> bool {
        self.mark.since(self.wall) > LONGEST_LAG
    }
}

/// A wall clock and the monotonic clock, put down as the moment at which the monotonic clock stood at zero: two that run
/// alike keep it, and of two readings the later one has the later start. There may be none yet.
#[derive(Debug)]
struct Start(AtomicI64);

impl Start {
    /// What stands for none: earlier than every start.
    const NONE: UnixMillis = UnixMillis::MIN;

    const fn none() -> Self {
        Self(AtomicI64::new(Self::NONE.get()))
    }

    fn get(&self) -> Option<UnixMillis> {
        let start = UnixMillis::new(self.0.load(Ordering::SeqCst));
        (start != Self::NONE).then_some(start)
    }

    fn set(&self, start: UnixMillis) {
        self.0.store(start.get(), Ordering::SeqCst);
    }

    fn clear(&self) {
        self.set(Self::NONE);
    }

    /// Moves it forward, never back.
    fn raise(&self, start: UnixMillis) {
        self.0.fetch_max(start.get(), Ordering::SeqCst);
    }
}

/// Wall clock and high-water mark together. Reading takes no lock unless the mark has to move.
pub struct JudgingClock {
    clock: Arc<dyn Clock>,
    mark: Start,
    /// A forward step that has yet to prove itself.
    step: Start,
    /// Since when that step has stood, by the monotonic clock. Held while mark or step change.
    step_since: Mutex<Duration>,
}

impl JudgingClock {
    /// A clock without a mark: until one is loaded the wall clock is believed.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            mark: Start::none(),
            step: Start::none(),
            step_since: Mutex::new(Duration::ZERO),
        }
    }

    fn clocks(&self) -> (UnixMillis, Duration) {
        let monotonic = self.clock.monotonic();
        (self.clock.unix_millis(), monotonic)
    }

    /// Takes the mark of a store over; without one the wall clock is the first mark. A mark that is later already stays.
    pub fn load(&self, stored: Option<UnixMillis>) {
        let (wall, monotonic) = self.clocks();
        let _moving = self.step_since.lock();
        self.mark.raise(stored.unwrap_or(wall) - monotonic);
    }

    /// A person says that the wall clock is right: it is the mark from now on.
    pub fn accept_wall(&self) {
        let (wall, monotonic) = self.clocks();
        let _moving = self.step_since.lock();
        self.mark.set(wall - monotonic);
        self.step.clear();
    }

    /// Looks at the clocks. Whatever is judged by the answer calls this anew: the mark follows what it sees.
    pub fn times(&self) -> Times {
        let (wall, monotonic) = self.clocks();
        let times = self.read(wall, monotonic);
        let is_ahead = wall > times.mark && wall >= times.judged;
        let taken_back = times.judged > times.mark && times.judged.since(wall) > LONGEST_LAG;
        if (is_ahead || taken_back) && self.mark.get().is_some() {
            self.follow(wall, monotonic);
            return self.read(wall, monotonic);
        }
        times
    }

    /// The same, and looks whether a step has stood long enough. To be called now and then, also when nothing is judged.
    pub fn observe(&self) -> Times {
        let (wall, monotonic) = self.clocks();
        if self.mark.get().is_some() {
            self.follow(wall, monotonic);
        }
        self.read(wall, monotonic)
    }

    fn read(&self, wall: UnixMillis, monotonic: Duration) -> Times {
        let mark = self.mark.get().map_or(wall, |mark| mark + monotonic);
        let judged = wall.max(mark);
        let step = self.step.get().map(|step| step + monotonic);
        Times {
            wall,
            mark,
            judged: step.map_or(judged, |step| judged.max(step)),
        }
    }

    /// Moves the mark as far as the wall clock is believed.
    fn follow(&self, wall: UnixMillis, monotonic: Duration) {
        let mut since = self.step_since.lock();
        let start = wall - monotonic;
        if let Some(step) = self.step.get() {
            let taken_back = step.since(start) > LONGEST_LAG;
            let stood = monotonic.saturating_sub(*since) >= STEP_STANDS;
            if taken_back {
                self.step.clear();
            } else if stood {
                self.mark.raise(step);
                self.step.clear();
            } else if start.since(step) <= LONGEST_STEP {
                self.step.raise(start);
                return;
            }
        }
        if self.mark.get().is_none_or(|mark| start.since(mark) <= LONGEST_STEP) {
            self.mark.raise(start);
        } else {
            self.step.set(start);
            *since = monotonic;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::ManualClock;
    use crate::time::UnixSeconds;

    const START: i64 = 1_800_000_000;

    fn clocks() -> (Arc<ManualClock>, JudgingClock) {
        let manual = Arc::new(ManualClock::at(START));
        let judging = JudgingClock::new(Arc::<ManualClock>::clone(&manual));
        judging.load(None);
        (manual, judging)
    }

    /// Seconds since the start: wall clock, mark, what is judged by.
    fn seconds(times: Times) -> (i64, i64, i64) {
        let since = |moment: UnixMillis| moment.get() / 1000 - START;
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
        judging.load(Some(UnixSeconds::new(START - 5000).start()));
        assert_eq!(seconds(judging.times()), (100, -5000, 100), "the broker was down");
        judging.load(Some(UnixSeconds::new(START + 400).start()));
        judging.load(Some(UnixSeconds::new(START).start()));
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
                let passed = Duration::from_secs(passes.unsigned_abs());
                prop_assert!(now.mark >= before.mark + passed);
                prop_assert!(now.judged >= now.wall && now.judged >= now.mark);
                step_age = if before.judged > before.mark { step_age + passes } else { 0 };
                let small = before.mark + passed + LONGEST_STEP;
                let stood = step_age >= 600 && now.mark <= before.judged + passed + LONGEST_STEP;
                prop_assert!(now.mark <= small || stood, "{before:?} {now:?}");
                if now.judged < before.judged + passed {
                    let fell = (before.judged + passed).since(now.wall);
                    prop_assert!(fell > LONGEST_LAG && before.judged > before.mark, "{before:?} {now:?}");
                }
                before = now;
            }
        }
    }
}
