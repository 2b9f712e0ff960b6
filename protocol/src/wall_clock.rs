//! Wall clock and high-water mark: whether they disagree, and what is said then.

use crate::Times;
use crate::time::UnixSeconds;
use crate::timestamp::rfc3339_seconds;

/// Whether the wall clock is so far behind what the store has seen that nothing can be issued by it. Tokens that are
/// dated before the second `min_iat` are refused, so it must have come.
pub fn is_wrong(times: Times, min_iat: UnixSeconds) -> bool {
    times.is_behind() || times.wall.second() < min_iat
}

/// What is wrong with a wall clock that is far behind what the store has seen.
pub fn disagreement(times: Times, min_iat: UnixSeconds) -> String {
    format!(
        "{}: nothing is issued until the clock is right; if it is right now, start with --accept-clock",
        both(times, min_iat)
    )
}

/// Both times.
pub fn both(times: Times, min_iat: UnixSeconds) -> String {
    format!(
        "the wall clock says {}, and the store has seen {}",
        rfc3339_seconds(times.wall.second()),
        rfc3339_seconds(times.mark.second().max(min_iat))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::UnixMillis;

    #[test]
    fn a_wall_clock_far_behind_the_mark_or_before_min_iat_is_wrong() {
        let lagging = |mark| Times {
            wall: UnixMillis::new(0),
            ..Times::at(UnixMillis::new(mark))
        };
        assert!(is_wrong(lagging(300_001), UnixSeconds::new(0)));
        assert!(!is_wrong(lagging(300_000), UnixSeconds::new(0)));
        let at = |millis| Times::at(UnixMillis::new(millis));
        assert!(is_wrong(at(9_999), UnixSeconds::new(10)));
        assert!(!is_wrong(at(10_000), UnixSeconds::new(10)));
    }

    #[test]
    fn the_later_of_mark_and_min_iat_is_what_the_store_has_seen() {
        let (times, min_iat) = (Times::at(UnixMillis::new(1_000)), UnixSeconds::new(60));
        assert_eq!(
            both(times, min_iat),
            "the wall clock says 1970-01-01T00:00:01Z, and the store has seen 1970-01-01T00:01:00Z"
        );
        assert!(disagreement(times, min_iat).ends_with("start with --accept-clock"));
    }
}
