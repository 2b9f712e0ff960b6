//! Wall clock and high-water mark: whether they disagree, and what is said then.

use crate::Times;
use crate::timestamp::rfc3339_seconds;

/// Whether the wall clock is so far behind what the store has seen that nothing can be issued by it. Tokens that are
/// dated before the second `min_iat` are refused, so it must have come.
pub fn is_wrong(times: Times, min_iat: i64) -> bool {
    times.is_behind() || times.wall.div_euclid(1000) < min_iat
}

/// What is wrong with a wall clock that is far behind what the store has seen.
pub fn disagreement(times: Times, min_iat: i64) -> String {
    format!(
        "{}: nothing is issued until the clock is right; if it is right now, start with --accept-clock",
        both(times, min_iat)
    )
}

/// Both times.
pub fn both(times: Times, min_iat: i64) -> String {
    let second = |millis: i64| rfc3339_seconds(millis.div_euclid(1000));
    format!(
        "the wall clock says {}, and the store has seen {}",
        second(times.wall),
        second(times.mark.max(min_iat.saturating_mul(1000)))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_far_behind_the_mark_or_before_min_iat_is_wrong() {
        let lagging = Times {
            wall: 0,
            mark: 300_001,
            judged: 300_001,
        };
        assert!(is_wrong(lagging, 0));
        assert!(!is_wrong(
            Times {
                mark: 300_000,
                ..lagging
            },
            0
        ));
        assert!(is_wrong(Times::at(9_999), 10));
        assert!(!is_wrong(Times::at(10_000), 10));
    }

    #[test]
    fn the_later_of_mark_and_min_iat_is_what_the_store_has_seen() {
        assert_eq!(
            both(Times::at(1_000), 60),
            "the wall clock says 1970-01-01T00:00:01Z, and the store has seen 1970-01-01T00:01:00Z"
        );
        assert!(disagreement(Times::at(1_000), 60).ends_with("start with --accept-clock"));
    }
}
