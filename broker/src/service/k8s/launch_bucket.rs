//! The token bucket of a pod's launches. It is kept with the pod in the store, where all brokers of a store see it; the
//! limits in memory are in `agentwrit_limits`.

/// The bucket after taking one token, or `None` when it is empty.
///
/// A bucket of `burst` tokens gains one every `interval_ms` milliseconds. It is stored as the millisecond `full_at` at
/// which it will be full (the generic cell rate algorithm); a bucket never seen is full.
pub(super) fn advance(full_at: Option<i64>, now_ms: i64, interval_ms: i64, burst: i64) -> Option<i64> {
    // After a clock that ran ahead was set back, `full_at` is too far away: such a bucket counts as empty, not longer.
    let emptied = now_ms.saturating_add(interval_ms.saturating_mul(burst));
    let next = full_at
        .unwrap_or(now_ms)
        .clamp(now_ms, emptied)
        .saturating_add(interval_ms);
    (next.saturating_sub(now_ms) <= interval_ms.saturating_mul(burst)).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_an_interval() {
        let mut full_at = None;
        let taken: Vec<bool> = [0, 0, 0, 0, 9_999, 10_000, 10_001, 40_000, 40_000, 40_000, 40_000]
            .into_iter()
            .map(|now_ms| {
                let next = advance(full_at, now_ms, 10_000, 3);
                full_at = next.or(full_at);
                next.is_some()
            })
            .collect();
        let wanted = [true, true, true, false, false, true, false, true, true, true, false];
        assert_eq!(taken, wanted);
    }

    #[test]
    fn a_clock_that_goes_back_does_not_open_the_bucket() {
        assert_eq!(advance(Some(30_000), 0, 10_000, 3), None);
        assert_eq!(advance(Some(86_400_000), 0, 10_000, 3), None);
    }
}
