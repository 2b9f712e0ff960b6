//! What is known of each namespace's CA `ConfigMap`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::pki::config_maps::{Missing, Outcome};

/// Nobody waits longer for the first look at a namespace.
const LONGEST_WAIT: Duration = Duration::from_secs(3);
/// That somebody waited is forgotten after this long, whatever came of it.
const FORGET_AFTER: Duration = Duration::from_mins(10);

/// Whether a namespace has its `ConfigMap`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CaBundleState {
    Written,
    Missing(Missing),
}

/// What is known of each namespace's `ConfigMap`, for the conditions of `LaunchToken`s.
#[derive(Debug, Clone, Default)]
pub(crate) struct CaBundles(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    states: HashMap<String, CaBundleState>,
    /// Since when somebody waits for the first look at a namespace.
    awaited: HashMap<String, Instant>,
}

impl CaBundles {
    fn all(&self) -> MutexGuard<'_, Known> {
        self.0.lock()
    }

    /// `None` while this namespace wasn't looked at.
    pub(crate) fn of(&self, namespace: &str) -> Option<CaBundleState> {
        self.all().states.get(namespace).cloned()
    }

    /// Whether a look at this namespace is to be waited for: there was none yet, and nobody has waited long.
    pub(crate) fn is_awaited(&self, namespace: &str, now: Instant) -> bool {
        let mut known = self.all();
        if known.states.contains_key(namespace) {
            return false;
        }
        known.awaited.retain(|_, since| now < *since + FORGET_AFTER);
        let since = *known.awaited.entry(namespace.to_owned()).or_insert(now);
        now < since + LONGEST_WAIT
    }

    /// Records the outcome of a look; returns whether it is new.
    pub(super) fn record(&self, namespace: &str, outcome: &Outcome) -> bool {
        let found = match outcome {
            Outcome::Right => CaBundleState::Written,
            Outcome::Missing(missing) => CaBundleState::Missing(missing.clone()),
            Outcome::NotLeading => return false,
            Outcome::Gone => {
                let mut known = self.all();
                known.awaited.remove(namespace);
                known.states.remove(namespace);
                return false;
            }
        };
        let mut known = self.all();
        known.awaited.remove(namespace);
        let before = known.states.insert(namespace.to_owned(), found.clone());
        before != Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(message: &str) -> Outcome {
        Outcome::Missing(Missing {
            reason: "NotWritten",
            message: message.into(),
        })
    }

    #[test]
    fn only_a_new_outcome_counts_as_changed() {
        let bundles = CaBundles::default();
        assert_eq!(bundles.of("shop"), None);
        let now = Instant::now();
        assert!(bundles.is_awaited("shop", now) && bundles.is_awaited("shop", now + LONGEST_WAIT / 2));
        assert!(
            !bundles.is_awaited("shop", now + LONGEST_WAIT),
            "it was waited for long enough"
        );
        assert!(bundles.is_awaited("other", now + FORGET_AFTER));
        assert_eq!(bundles.all().awaited.len(), 1, "none is kept for ever");
        assert!(bundles.record("shop", &missing("quota")));
        assert!(!bundles.is_awaited("shop", now), "it was looked at");
        assert!(!bundles.record("shop", &missing("quota")));
        assert!(bundles.record("shop", &missing("another quota")));
        assert!(bundles.record("shop", &Outcome::Right));
        assert_eq!(bundles.of("shop"), Some(CaBundleState::Written));
        bundles.record("shop", &Outcome::Gone);
        assert_eq!(bundles.of("shop"), None);
    }
}
