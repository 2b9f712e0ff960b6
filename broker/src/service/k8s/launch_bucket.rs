//! The token bucket of a pod's launches. It is kept with the pod in the store, where all brokers of a store see it; the
//! limits in memory are in `agentwrit_limits`.

use std::time::Duration;

use agentwrit_protocol::UnixMillis;

/// The bucket after taking one token, or `None` when it is empty.
///
/// A bucket of `burst` tokens gains one every `interval`. It is stored as the moment `full_at` at which it will be full
/// (the generic cell rate algorithm); a bucket never seen is full.
pub(super) fn advance(
    full_at: Option<UnixMillis>,
    now: UnixMillis,
    interval: Duration,
    burst: u32,
) -> Option<UnixMillis> {
    let emptied = now + interval.saturating_mul(burst);
    // After a clock that ran ahead was set back, `full_at` is too far away: such a bucket counts as empty, not longer.
    let next = full_at.unwrap_or(now).clamp(now, emptied) + interval;
    (next <= emptied).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    #[test]
    fn a_burst_then_one_an_interval() {
        let mut full_at = None;
        let taken: Vec<bool> = [0, 0, 0, 0, 9_999, 10_000, 10_001, 40_000, 40_000, 40_000, 40_000]
            .into_iter()
            .map(|now| {
                let next = advance(full_at, UnixMillis::new(now), INTERVAL, 3);
                full_at = next.or(full_at);
                next.is_some()
            })
            .collect();
        let wanted = [true, true, true, false, false, true, false, true, true, true, false];
        assert_eq!(taken, wanted);
    }

    #[test]
    fn a_clock_that_goes_back_does_not_open_the_bucket() {
        for full_at in [30_000, 86_400_000].map(UnixMillis::new) {
            assert_eq!(advance(Some(full_at), UnixMillis::new(0), INTERVAL, 3), None);
        }
    }
}
