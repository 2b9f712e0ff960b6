//! Time: the one place of this crate that asks the system for it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agentwrit_protocol::UnixSeconds;

/// A monotonic reading.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Instant {
    Instant::now()
}

/// Unix time.
#[allow(clippy::disallowed_methods)]
pub fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The current second.
pub fn unix_seconds() -> UnixSeconds {
    UnixSeconds::new(i64::try_from(unix().as_secs()).unwrap_or(i64::MAX))
}

/// A count for arithmetic; exact up to 2^32, which no run of ours reaches.
pub fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// `count` per second.
pub fn rate(count: u64, elapsed: Duration) -> f64 {
    float(count) / elapsed.as_secs_f64().max(1e-9)
}
