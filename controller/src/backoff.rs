//! What keeps failing is tried again after a second, then after twice as long each time, at most 5 minutes.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

/// After the first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// After any further one, at most.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// From so many entries on, those that weren't used in a long time are dropped.
const FORGET_ABOVE: usize = 1024;

/// The pause after so many failures in a row.
pub(crate) fn pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE)
}

/// Remembers what failed, and until when it rests.
#[derive(Debug)]
pub(crate) struct Backoff<K> {
    entries: Mutex<HashMap<K, Entry>>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    failures: u32,
    until: Instant,
}

impl<K> Default for Backoff<K> {
    fn default() -> Self {
        Self {
            entries: Mutex::default(),
        }
    }
}

impl<K: Eq + Hash> Backoff<K> {
    fn entries(&self) -> MutexGuard<'_, HashMap<K, Entry>> {
        self.entries.lock()
    }

    /// How much longer it rests, if it does.
    pub(crate) fn rests(&self, key: &K) -> Option<Duration> {
        let until = self.entries().get(key)?.until;
        Some(until.saturating_duration_since(Instant::now())).filter(|rest| !rest.is_zero())
    }

    /// It failed; answers how long it rests now.
    pub(crate) fn failed(&self, key: K) -> Duration {
        let now = Instant::now();
        let mut entries = self.entries();
        if entries.len() >= FORGET_ABOVE && !entries.contains_key(&key) {
            entries.retain(|_, entry| entry.until + LONGEST_PAUSE > now);
        }
        let entry = entries.entry(key).or_insert(Entry {
            failures: 0,
            until: now,
        });
        entry.failures = entry.failures.saturating_add(1);
        let pause = pause(entry.failures);
        entry.until = now + pause;
        pause
    }

    /// It succeeded; answers whether it had failed before.
    pub(crate) fn done(&self, key: &K) -> bool {
        self.entries().remove(key).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_five_minutes() {
        let seconds: Vec<u64> = [1, 2, 3, 4, 9, 10, u32::MAX]
            .into_iter()
            .map(|failures| pause(failures).as_secs())
            .collect();
        assert_eq!(seconds, [1, 2, 4, 8, 256, 300, 300]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_rests_and_a_success_forgets_it() {
        let backoff = Backoff::default();
        assert_eq!(backoff.rests(&"a"), None);
        backoff.failed("a");
        assert_eq!(backoff.failed("a"), Duration::from_secs(2));
        assert_eq!(
            (backoff.rests(&"a"), backoff.rests(&"b")),
            (Some(Duration::from_secs(2)), None)
        );
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(backoff.rests(&"a"), None);
        assert_eq!(backoff.failed("a"), Duration::from_secs(4), "it has not succeeded");
        assert!(backoff.done(&"a") && !backoff.done(&"a"));
        assert_eq!(backoff.failed("a"), FIRST_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn old_failures_are_not_kept_for_ever() {
        let backoff = Backoff::default();
        for key in 0..FORGET_ABOVE {
            backoff.failed(key);
        }
        tokio::time::advance(2 * LONGEST_PAUSE).await;
        backoff.failed(FORGET_ABOVE);
        assert_eq!(backoff.entries().len(), 1);
    }
}
