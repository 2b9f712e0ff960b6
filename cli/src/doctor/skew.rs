//! How far two clocks are apart, as far as one request can show.

use std::time::Duration;

use agentwrit_protocol::{UnixMillis, UnixSeconds};

/// How the broker's clock differs from ours, by the least that explains the readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Skew {
    /// The readings show no difference.
    None,
    /// The broker's is ahead.
    Ahead(Duration),
    /// The broker's is behind.
    Behind(Duration),
}

impl Skew {
    /// From a second that the broker read off its clock at some time between two readings of ours.
    pub(super) fn of(broker: UnixSeconds, before: UnixMillis, after: UnixMillis) -> Self {
        let (first, last) = (broker.start(), broker.start() + Duration::from_millis(999));
        if first > after {
            Self::Ahead(first.since(after))
        } else if last < before {
            Self::Behind(before.since(last))
        } else {
            Self::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_skew_is_claimed_that_the_readings_do_not_show() {
        let ahead = |millis| Skew::Ahead(Duration::from_millis(millis));
        let behind = |millis| Skew::Behind(Duration::from_millis(millis));
        // broker's second, our readings before and after in ms, least skew
        for (broker, before, after, least) in [
            (100, 100_500, 100_600, Skew::None),
            (100, 99_500, 100_100, Skew::None),
            (100, 100_990, 101_900, Skew::None),
            (100, 101_100, 101_200, behind(101)),
            (100, 98_000, 99_000, ahead(1000)),
            (160, 100_000, 100_010, ahead(59_990)),
            (40, 100_000, 100_010, behind(59_001)),
            // A slow answer hides much.
            (110, 100_000, 120_000, Skew::None),
            // No clock says so, but a broker can.
            (i64::MAX, 0, 0, ahead(i64::MAX.unsigned_abs())),
            (i64::MIN, 0, 0, behind(i64::MAX.unsigned_abs() - 998)),
        ] {
            let (broker, before, after) = (
                UnixSeconds::new(broker),
                UnixMillis::new(before),
                UnixMillis::new(after),
            );
            assert_eq!(Skew::of(broker, before, after), least, "{broker} {before} {after}");
        }
    }
}
