//! How far two clocks are apart, as far as one request can show.

/// Between which bounds, in milliseconds, the broker's clock is ahead of ours; both negative: it is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Skew {
    low: i64,
    high: i64,
}

impl Skew {
    /// From a second that the broker read off its clock at some time between two readings of ours, in milliseconds.
    pub(super) fn of(broker_seconds: i64, before: i64, after: i64) -> Self {
        let begin = broker_seconds.saturating_mul(1000);
        Self {
            low: begin.saturating_sub(after),
            // The second had 999 ms to go at most.
            high: begin.saturating_add(999).saturating_sub(before),
        }
    }

    /// The least number of milliseconds that explains the readings; positive when the broker is ahead.
    pub(super) fn least(self) -> i64 {
        if self.low > 0 {
            self.low
        } else if self.high < 0 {
            self.high
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_skew_is_claimed_that_the_readings_do_not_show() {
        // broker's second, our readings before and after in ms, least skew
        for (broker, before, after, least) in [
            (100, 100_500, 100_600, 0),
            (100, 99_500, 100_100, 0),
            (100, 100_990, 101_900, 0),
            (100, 101_100, 101_200, -101),
            (100, 98_000, 99_000, 1000),
            (160, 100_000, 100_010, 59_990),
            (40, 100_000, 100_010, -59_001),
            // A slow answer hides much.
            (110, 100_000, 120_000, 0),
        ] {
            assert_eq!(
                Skew::of(broker, before, after).least(),
                least,
                "{broker} {before} {after}"
            );
        }
    }
}
