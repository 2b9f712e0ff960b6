//! Rate limits by source (token buckets of the governor crate, on the broker's clock) and what is done about denials.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agentwrit_protocol::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::config::Config;

/// Sources remembered by one limiter; newer ones beyond it share one bucket.
const MAX_SOURCES: usize = 100_000;
const ADMIN_AUTH_PER_SECOND: u32 = 5;
const ADMIN_AUTH_BURST: u32 = 10;

#[derive(Clone)]
struct Monotonic(Arc<dyn Clock>);

impl governor::clock::Clock for Monotonic {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

/// One bucket for an IPv6 /64: whoever has one address of it has all of them.
fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
    }
}

type Buckets = RateLimiter<IpAddr, DashMapStateStore<IpAddr>, Monotonic, NoOpMiddleware<Duration>>;

/// One limit.
struct Limit {
    buckets: Option<Buckets>,
}

impl Limit {
    /// No limit when the rate is 0.
    fn new(per_second: u32, burst: u32, clock: &Arc<dyn Clock>) -> Self {
        let quota = NonZeroU32::new(per_second)
            .zip(NonZeroU32::new(burst))
            .map(|(rate, burst)| Quota::per_second(rate).allow_burst(burst));
        let buckets =
            quota.map(|quota| RateLimiter::new(quota, DashMapStateStore::default(), Monotonic(Arc::clone(clock))));
        Self { buckets }
    }

    fn allows(&self, source: IpAddr) -> bool {
        let Some(buckets) = &self.buckets else { return true };
        let key = if buckets.len() >= MAX_SOURCES {
            IpAddr::from([0, 0, 0, 0])
        } else {
            network(source)
        };
        buckets.check_key(&key).is_ok()
    }

    fn prune(&self) {
        if let Some(buckets) = &self.buckets {
            buckets.retain_recent();
            buckets.shrink_to_fit();
        }
    }
}

/// Every limit of the broker.
pub struct Limits {
    admin_auth: Limit,
    challenge: Limit,
    register: Limit,
    denials: Limit,
    suppressed: AtomicU64,
}

impl Limits {
    /// The limits that the configuration asks for.
    pub fn new(config: &Config, clock: &Arc<dyn Clock>) -> Self {
        let twice = |rate: u32| rate.saturating_mul(2);
        Self {
            admin_auth: Limit::new(ADMIN_AUTH_PER_SECOND, ADMIN_AUTH_BURST, clock),
            challenge: Limit::new(config.challenge_rate, twice(config.challenge_rate), clock),
            register: Limit::new(config.register_rate, twice(config.register_rate), clock),
            denials: Limit::new(config.denial_audit_rate, config.denial_audit_rate, clock),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Whether this source may try another admin login now.
    pub fn admin_auth(&self, source: IpAddr) -> bool {
        self.admin_auth.allows(source)
    }

    /// Whether this source may have another challenge now.
    pub fn challenge(&self, source: IpAddr) -> bool {
        self.challenge.allows(source)
    }

    /// Whether this source may try another registration now.
    pub fn register(&self, source: IpAddr) -> bool {
        self.register.allows(source)
    }

    /// Whether a denial of this source is audited; one that isn't is counted.
    pub fn audits_denial(&self, source: IpAddr) -> bool {
        let allowed = self.denials.allows(source);
        if !allowed {
            self.suppress();
        }
        allowed
    }

    /// Counts a denial that the trail will hold only as a number.
    pub fn suppress(&self) {
        self.suppressed.fetch_add(1, Ordering::Relaxed);
    }

    /// Denials counted since the last call.
    pub fn take_suppressed(&self) -> u64 {
        self.suppressed.swap(0, Ordering::Relaxed)
    }

    /// Forgets sources whose buckets are full again.
    pub fn prune(&self) {
        for limit in [&self.admin_auth, &self.challenge, &self.register, &self.denials] {
            limit.prune();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentwrit_protocol::clock::ManualClock;

    #[test]
    fn the_addresses_of_one_network_share_a_bucket() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(0));
        let limit = Limit::new(1, 2, &clock);
        let allowed = |text: &str| limit.allows(text.parse().unwrap());
        assert!(allowed("2001:db8::1") && allowed("2001:db8::2"));
        assert!(!allowed("2001:db8::3"));
        assert!(allowed("2001:db8:0:1::1"));
        assert!(allowed("192.0.2.1") && allowed("192.0.2.1") && !allowed("192.0.2.1"));
        assert!(allowed("192.0.2.2"));
    }
}
