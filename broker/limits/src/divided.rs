//! Rates of all below a session, of which one delegate has at most half.

use std::num::NonZeroU32;
use std::sync::Arc;

use agentwrit_protocol::Clock;
use governor::Quota;

use super::limit::Limit;

/// A rate, and in how many seconds one who has used it up may try again.
pub(super) struct Rate {
    limit: Limit,
    again: u32,
}

impl Rate {
    pub(super) fn new(quota: Option<Quota>, clock: &Arc<dyn Clock>) -> Self {
        let again = quota.map_or(1, |quota| quota.replenish_interval().as_millis().div_ceil(1000));
        Self {
            limit: Limit::new(quota, clock),
            again: u32::try_from(again).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn check_rate(&self, key: &str) -> Result<(), u32> {
        if self.limit.allows(key) {
            Ok(())
        } else {
            Err(self.again)
        }
    }

    pub(super) fn prune(&self) {
        self.limit.prune();
    }
}

/// A rate of all below a session, of which each branch has at most half: a branch is a delegation by the session
/// itself with all that descends from it, so that one delegate leaves something to the session and to the others.
pub(super) struct Divided {
    all: Rate,
    branch: Rate,
}

impl Divided {
    pub(super) fn new(quota: Option<Quota>, clock: &Arc<dyn Clock>) -> Self {
        let half = quota.and_then(|quota| {
            let burst = NonZeroU32::new(quota.burst_size().get() / 2).unwrap_or(NonZeroU32::MIN);
            Some(Quota::with_period(quota.replenish_interval().saturating_mul(2))?.allow_burst(burst))
        });
        Self {
            all: Rate::new(quota, clock),
            branch: Rate::new(half, clock),
        }
    }

    pub(super) fn check_rate(&self, key: &str, branch: Option<&str>) -> Result<(), u32> {
        branch.map_or(Ok(()), |branch| self.branch.check_rate(branch))?;
        self.all.check_rate(key)
    }

    pub(super) fn prune(&self) {
        self.all.prune();
        self.branch.prune();
    }
}
