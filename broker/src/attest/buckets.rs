//! Token buckets by source, on the injected clock, bounded in number.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use agentwrit_server::Source;

/// Most keys remembered; beyond it the one nearest to a full bucket is forgotten.
const MAX_KEYS: usize = 10_000;

/// One bucket a key, as a "theoretical arrival time" (GCRA): the millisecond at which the bucket is full again.
#[derive(Debug)]
pub struct Buckets {
    interval_ms: i64,
    burst: i64,
    full_at: Mutex<HashMap<Source, i64>>,
}

impl Buckets {
    /// Buckets of `burst` tokens that gain one every `interval_ms` milliseconds.
    pub fn new(interval_ms: i64, burst: i64) -> Self {
        Self {
            interval_ms,
            burst,
            full_at: Mutex::new(HashMap::new()),
        }
    }

    /// Takes a token of `key` at `now_ms`; `false` when there is none.
    pub fn take(&self, key: Source, now_ms: i64) -> bool {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(next) = advance(full_at.get(&key).copied(), now_ms, self.interval_ms, self.burst) else {
            return false;
        };
        if full_at.len() >= MAX_KEYS && !full_at.contains_key(&key) {
            full_at.retain(|_, at| *at > now_ms);
            if full_at.len() >= MAX_KEYS
                && let Some(nearest) = full_at.iter().min_by_key(|(_, at)| **at).map(|(key, _)| *key)
            {
                full_at.remove(&nearest);
            }
        }
        full_at.insert(key, next);
        true
    }
}

/// The bucket after taking one token, or `None` when it is empty.
///
/// `full_at` is the millisecond at which it will be full; a bucket never seen is full.
pub fn advance(full_at: Option<i64>, now_ms: i64, interval_ms: i64, burst: i64) -> Option<i64> {
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
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn source(address: u32) -> Source {
        Source::of(IpAddr::V4(Ipv4Addr::from_bits(address)))
    }

    #[test]
    fn a_burst_then_one_an_interval() {
        let buckets = Buckets::new(10_000, 3);
        let taken: Vec<bool> = [0, 0, 0, 0, 9_999, 10_000, 10_001, 40_000, 40_000, 40_000, 40_000]
            .into_iter()
            .map(|at| buckets.take(source(1), at))
            .collect();
        let wanted = [true, true, true, false, false, true, false, true, true, true, false];
        assert_eq!(taken, wanted);
        assert!(buckets.take(source(2), 0));
    }

    #[test]
    fn strangers_cannot_fill_the_memory() {
        let buckets = Buckets::new(1_000, 2);
        for n in 0..u32::try_from(MAX_KEYS).unwrap() + 500 {
            assert!(buckets.take(source(n), 0));
        }
        assert_eq!(buckets.full_at.lock().unwrap().len(), MAX_KEYS);
        assert!(buckets.take(source(u32::MAX), 5_000));
        assert_eq!(buckets.full_at.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_clock_that_goes_back_does_not_open_the_bucket() {
        assert_eq!(advance(Some(30_000), 0, 10_000, 3), None);
        assert_eq!(advance(Some(86_400_000), 0, 10_000, 3), None);
    }
}
