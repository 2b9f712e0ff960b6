//! How many refusals become log lines: a client that makes pods or reaches the port must not be able to fill the log.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::Clock;
use parking_lot::Mutex;

/// Lines within one [`WINDOW`].
const LINES_PER_WINDOW: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// Decides which refusals are logged.
pub(crate) struct RefusalLog {
    clock: Arc<dyn Clock>,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    /// When it began, on the monotonic clock.
    start: Duration,
    /// Lines written in it.
    written: u32,
    /// Refusals since the last line that were not written.
    left_out: u64,
}

impl std::fmt::Debug for RefusalLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RefusalLog")
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

impl RefusalLog {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            window: Mutex::default(),
        }
    }

    /// Whether this refusal is written: `Some` with the number of those before it that were left out.
    pub(crate) fn admit(&self) -> Option<u64> {
        let now = self.clock.monotonic();
        let mut window = self.window.lock();
        // A clock that went back begins a new window too.
        if now.checked_sub(window.start).is_none_or(|age| age >= WINDOW) {
            window.start = now;
            window.written = 0;
        }
        if window.written < LINES_PER_WINDOW {
            window.written = window.written.saturating_add(1);
            Some(std::mem::take(&mut window.left_out))
        } else {
            window.left_out = window.left_out.saturating_add(1);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentwrit_protocol::clock::ManualClock;

    #[test]
    fn ten_lines_a_second_and_the_others_are_counted() {
        let clock = Arc::new(ManualClock::at(1_000_000));
        let log = RefusalLog::new(clock.clone());
        let written = |count: usize| (0..count).filter(|_| log.admit().is_some()).count();
        assert_eq!(written(25), 10);
        clock.advance_millis(999);
        assert_eq!(written(5), 0);
        clock.advance_millis(1);
        assert_eq!(log.admit(), Some(20));
        assert_eq!(log.admit(), Some(0));
        assert_eq!(written(100), 8);
        clock.jump(-3600);
        clock.advance(1);
        assert_eq!(log.admit(), Some(92), "a wall clock that went back stops nothing");
    }
}
