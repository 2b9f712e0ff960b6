//! A store that fails is tried each second, but logged once and then only now and then.

use std::time::Duration;

/// How often a failure that goes on is logged.
const AGAIN: Duration = Duration::from_secs(30);

/// The failures since the store was last well.
#[derive(Debug, Default)]
pub struct Outage {
    failures: u64,
    unlogged: u64,
    last_logged: Option<Duration>,
}

impl Outage {
    /// Counts a failure at this monotonic moment; when a line is due, how many failures it is about.
    pub fn failed(&mut self, now: Duration) -> Option<u64> {
        self.failures = self.failures.saturating_add(1);
        self.unlogged = self.unlogged.saturating_add(1);
        if self
            .last_logged
            .is_some_and(|logged| now.saturating_sub(logged) < AGAIN)
        {
            return None;
        }
        self.last_logged = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }

    /// Ends it; how many failures there were.
    pub fn over(&mut self) -> u64 {
        std::mem::take(self).failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_logged_at_first_then_counted_every_30_s() {
        let mut outage = Outage::default();
        let at = Duration::from_secs;
        for again in [false, true] {
            let begin = if again { 40 } else { 7 };
            assert_eq!(outage.failed(at(begin)), Some(1));
            for second in 1..30 {
                assert_eq!(outage.failed(at(begin + second)), None);
            }
            assert_eq!(outage.failed(at(begin + 30)), Some(30));
            assert_eq!(outage.failed(at(begin + 31)), None);
            assert_eq!((outage.over(), outage.over()), (32, 0), "again: {again}");
        }
    }
}
