//! Time and randomness that a test moves.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use time::OffsetDateTime;

use super::{Clock, Entropy, EntropyError};

/// A clock that stands until it is moved: for tests.
///
/// Time passes for the wall clock and the monotonic clock alike ([`ManualClock::advance`]); a jump moves the wall clock
/// alone ([`ManualClock::jump`]).
#[derive(Debug, Default)]
pub struct ManualClock {
    wall_millis: AtomicI64,
    monotonic_millis: AtomicU64,
}

impl ManualClock {
    /// A clock whose wall and monotonic readings stand at `seconds` after the Unix epoch.
    pub fn at(seconds: i64) -> Self {
        let millis = seconds.saturating_mul(1000);
        Self {
            wall_millis: AtomicI64::new(millis),
            monotonic_millis: AtomicU64::new(u64::try_from(millis).unwrap_or(0)),
        }
    }

    /// Lets `seconds` pass. A negative number sets the wall clock back, since monotonic time never goes back.
    pub fn advance(&self, seconds: i64) {
        self.advance_millis(seconds.saturating_mul(1000));
    }

    /// Lets `millis` pass. A negative number sets the wall clock back, since monotonic time never goes back.
    pub fn advance_millis(&self, millis: i64) {
        self.wall_millis.fetch_add(millis, Ordering::SeqCst);
        let passed = u64::try_from(millis).unwrap_or(0);
        self.monotonic_millis.fetch_add(passed, Ordering::SeqCst);
    }

    /// Moves the wall clock alone by `seconds`, backwards when negative.
    pub fn jump(&self, seconds: i64) {
        let millis = seconds.saturating_mul(1000);
        self.wall_millis.fetch_add(millis, Ordering::SeqCst);
    }

    /// Sets the wall clock alone to `seconds` after the Unix epoch.
    pub fn set_wall(&self, seconds: i64) {
        self.wall_millis.store(seconds.saturating_mul(1000), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> OffsetDateTime {
        let nanos = i128::from(self.wall_millis.load(Ordering::SeqCst)).saturating_mul(1_000_000);
        OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_millis.load(Ordering::SeqCst))
    }
}

/// A generator whose bytes are reproducible: for tests, never for keys that matter.
#[derive(Debug, Default)]
pub struct SequenceEntropy {
    state: AtomicU64,
}

impl Entropy for SequenceEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        for chunk in buffer.chunks_mut(8) {
            // SplitMix64: distinct outputs for distinct states.
            let mut z = self
                .state
                .fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::SeqCst)
                .wrapping_add(0x9E37_79B9_7F4A_7C15);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^= z >> 31;
            for (byte, random) in chunk.iter_mut().zip(z.to_le_bytes()) {
                *byte = random;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{UnixMillis, UnixSeconds};

    #[test]
    fn manual_clock_counts_in_seconds_and_milliseconds() {
        let clock = ManualClock::at(1_000);
        clock.advance_millis(1_500);
        assert_eq!(clock.unix_seconds(), UnixSeconds::new(1_001));
        assert_eq!(clock.unix_millis(), UnixMillis::new(1_001_500));
        clock.advance(-2);
        assert_eq!(clock.unix_millis(), UnixMillis::new(999_500));
    }

    #[test]
    fn only_the_wall_clock_jumps() {
        let clock = ManualClock::at(1_000);
        clock.jump(500);
        clock.advance(3);
        assert_eq!(
            (clock.unix_seconds().get(), clock.monotonic().as_secs()),
            (1_503, 1_003)
        );
        clock.jump(-900);
        clock.advance(-1);
        assert_eq!((clock.unix_seconds().get(), clock.monotonic().as_secs()), (602, 1_003));
        clock.set_wall(7);
        assert_eq!((clock.unix_seconds().get(), clock.monotonic().as_secs()), (7, 1_003));
    }

    #[test]
    fn sequence_entropy_does_not_repeat() {
        let entropy = SequenceEntropy::default();
        let (mut a, mut b) = ([0_u8; 16], [0_u8; 16]);
        entropy.fill(&mut a).unwrap();
        entropy.fill(&mut b).unwrap();
        assert_ne!(a, b);
    }
}
