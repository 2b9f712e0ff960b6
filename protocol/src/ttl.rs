//! How long tokens live, and the bounds: what a policy, an app or a pod may ask for, and the ceiling of all (`AA_MAX_TTL`).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Shortest life that a policy or an app sets.
pub const MIN_POLICY_TTL_SECONDS: i64 = 60;
/// Longest life that a policy or an app sets, or a pod asks for: one day.
pub const MAX_TTL_SECONDS: i64 = 86_400;

/// A life in whole seconds, or another length of time that is counted in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ttl(i64);

impl Ttl {
    /// No time; in settings that have 0 for it, no bound.
    pub const ZERO: Self = Self(0);

    /// So many seconds.
    pub const fn seconds(seconds: i64) -> Self {
        Self(seconds)
    }

    /// The number of seconds.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Whether it is longer than nothing.
    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }

    /// This life, or the ceiling when that is shorter; a ceiling of 0 or less is none.
    #[must_use]
    pub fn capped_at(self, ceiling: Self) -> Self {
        if ceiling.is_positive() { self.min(ceiling) } else { self }
    }

    /// The same as a `Duration`, which is never negative: zero then.
    pub fn duration(self) -> Duration {
        Duration::from_secs(u64::try_from(self.0).unwrap_or(0))
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_cut_at_the_ceiling_and_0_is_none() {
        for (life, ceiling, wanted) in [(299, 300, 299), (301, 300, 300), (301, 0, 301), (301, -1, 301)] {
            let capped = Ttl::seconds(life).capped_at(Ttl::seconds(ceiling));
            assert_eq!(capped, Ttl::seconds(wanted), "{life} under {ceiling}");
        }
    }

    #[test]
    fn a_negative_life_lasts_for_no_time() {
        assert_eq!(Ttl::seconds(-5).duration(), Duration::ZERO);
        assert_eq!(Ttl::seconds(5).duration(), Duration::from_secs(5));
        assert!(Ttl::seconds(1).is_positive() && !Ttl::seconds(0).is_positive());
    }
}
