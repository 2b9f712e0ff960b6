//! The operating system's clock and generator: the one place that asks for them. Behind the feature `system`, for
//! programs; what decides takes a [`Clock`] and an [`Entropy`].

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::clock::{Clock, Entropy, EntropyError};

/// The moment that monotonic readings count from: the first one.
#[allow(clippy::disallowed_methods)]
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The system's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)]
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    fn monotonic(&self) -> Duration {
        START.elapsed()
    }
}

/// The system's generator of unpredictable bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[allow(clippy::disallowed_methods)]
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        getrandom::fill(buffer).map_err(|error| EntropyError(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_fills_the_buffer() {
        let mut buffer = [0_u8; 32];
        SystemEntropy.fill(&mut buffer).unwrap();
        assert_ne!(buffer, [0_u8; 32]);
    }

    #[test]
    fn the_clock_shows_this_century_and_intervals_dont_come_from_it() {
        assert!(SystemClock.unix_seconds().get() > 1_700_000_000);
        let first = SystemClock.monotonic();
        assert!(first < Duration::from_hours(24 * 365), "{first:?} is a wall-clock time");
        assert!(SystemClock.monotonic() >= first);
    }
}
