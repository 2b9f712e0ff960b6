//! One rate limit, with a bucket a key.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agentwrit_protocol::Clock;
use governor::middleware::NoOpMiddleware;
use governor::{Quota, RateLimiter};

use super::buckets::Buckets;

/// Keys that one limit remembers.
const MOST_KEYS: usize = 100_000;
/// A full table is looked through for buckets that nobody needs no more often than this.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Monotonic(Arc<dyn Clock>);

impl governor::clock::Clock for Monotonic {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

type Limiter = RateLimiter<u64, Buckets, Monotonic, NoOpMiddleware<Duration>>;

/// A rate by key.
pub(super) struct Limit {
    limiter: Option<Limiter>,
    hasher: RandomState,
    clock: Arc<dyn Clock>,
    swept_ms: AtomicU64,
}

impl Limit {
    /// This rate for each key; no limit for `None`.
    pub(super) fn new(quota: Option<Quota>, clock: &Arc<dyn Clock>) -> Self {
        let limiter = quota.map(|quota| RateLimiter::new(quota, Buckets::new(MOST_KEYS), Monotonic(Arc::clone(clock))));
        Self {
            limiter,
            hasher: RandomState::new(),
            clock: Arc::clone(clock),
            swept_ms: AtomicU64::new(0),
        }
    }

    /// Takes a token of this key, if there is one.
    pub(super) fn allows(&self, key: impl Hash) -> bool {
        let Some(limiter) = &self.limiter else { return true };
        if limiter.len() >= MOST_KEYS {
            self.sweep(limiter);
        }
        limiter.check_key(&self.hasher.hash_one(key)).is_ok()
    }

    fn sweep(&self, limiter: &Limiter) {
        let now = u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX);
        let every = u64::try_from(SWEEP_EVERY.as_millis()).unwrap_or(u64::MAX);
        let before = self.swept_ms.load(Ordering::Relaxed);
        let due = now.saturating_sub(before) >= every;
        if due
            && self
                .swept_ms
                .compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            limiter.retain_recent();
        }
    }

    /// Forgets keys whose buckets are full again.
    pub(super) fn prune(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use agentwrit_protocol::clock::ManualClock;

    fn quota(per_second: u32, burst: u32) -> Quota {
        Quota::per_second(NonZeroU32::new(per_second).unwrap()).allow_burst(NonZeroU32::new(burst).unwrap())
    }

    #[test]
    fn buckets_fill_again_with_time() {
        let manual = Arc::new(ManualClock::at(100));
        let clock: Arc<dyn Clock> = manual.clone();
        let limit = Limit::new(Some(quota(5, 10)), &clock);
        let taken = |limit: &Limit| (0..20).filter(|_| limit.allows("a")).count();
        assert_eq!(taken(&limit), 10);
        manual.advance(1);
        assert_eq!(taken(&limit), 5);
        manual.advance(60);
        assert_eq!(taken(&limit), 10);
        assert!(limit.allows("b"), "another key has its own");
        assert!((0..1000).all(|_| Limit::new(None, &clock).allows("a")), "no limit");
    }

    #[test]
    fn a_flood_of_keys_takes_bounded_memory_and_no_known_bucket() {
        let manual = Arc::new(ManualClock::at(100));
        let clock: Arc<dyn Clock> = manual.clone();
        let limit = Limit::new(Some(quota(1, 2)), &clock);
        assert!(limit.allows("known") && limit.allows("known"));
        let flood = |from: usize| (from..from + 3 * MOST_KEYS).filter(|n| limit.allows(n)).count();
        assert_eq!(
            flood(0),
            MOST_KEYS + 1,
            "each of those that fit, then two of one bucket for all others"
        );
        assert_eq!(limit.limiter.as_ref().unwrap().len(), MOST_KEYS);
        assert!(
            !limit.allows("known"),
            "its bucket was not forgotten, or the flood would have refilled it"
        );
        manual.advance(1);
        assert!(limit.allows("known"), "nor is it the shared one");
        manual.advance(10);
        assert!(limit.allows("new"), "sources that went quiet make room");
        assert!(limit.limiter.as_ref().unwrap().len() < 3);
        limit.prune();
        assert_eq!(limit.limiter.as_ref().unwrap().len(), 1);
    }
}
