//! How often sessions renew and delegate, and how many delegations may stand under one.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::{Clock, SessionId};
use governor::Quota;
use parking_lot::Mutex;

use super::divided::{Divided, Rate};
use super::{Settings, per_second};

/// Of a pod's own session: one renewal in this time. A sidecar renews at most each 8 s.
const RENEWAL_EVERY: Duration = Duration::from_secs(2);
const RENEWAL_BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
/// Of all tokens that a pod's session delegated, a second.
const DELEGATED_PER_SECOND: u32 = 8;
const DELEGATED_BURST: u32 = 64;
/// Delegations by a pod's session and all below it, a second. Each is a row for a day after its token has expired.
const DELEGATIONS_PER_SECOND: u32 = 1;
const DELEGATIONS_BURST: u32 = 60;
/// Delegations that stand under the session of an attested agent.
const MOST_OPEN: usize = 256;
/// Larger caps have no part for one branch: its count looks at all delegations of the session.
const MOST_SHARED: usize = 1_024;
/// The delegations under one session are counted no more often than this.
const COUNTED_EVERY: Duration = Duration::from_secs(1);
/// Sessions whose open delegations are remembered.
const MOST_ROOTS: usize = 10_000;

/// What the bearer of a token asks to do with its session; each has rates of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionAction {
    /// Renews its token, or one that it delegated.
    Renew,
    /// Delegates.
    Delegate,
}

/// Whether there was a place for one more open delegation under a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Yes, and it is taken.
    Taken,
    /// No.
    NoneLeft,
    /// Those that are open must be counted first.
    NotCounted,
}

/// The rates and caps of sessions.
pub(super) struct Sessions {
    attested: Rates,
    others: Rates,
    most_open: usize,
    open_delegations: OpenDelegations,
}

/// The rates of one kind of agents. The session's own renewals have one that its delegates can't use up.
struct Rates {
    renewals: Rate,
    delegated: Divided,
    delegations: Divided,
}

impl Rates {
    fn prune(&self) {
        self.renewals.prune();
        self.delegated.prune();
        self.delegations.prune();
    }
}

impl Sessions {
    pub(super) fn new(settings: &Settings, clock: &Arc<dyn Clock>) -> Self {
        let renewal = Quota::with_period(RENEWAL_EVERY).map(|quota| quota.allow_burst(RENEWAL_BURST));
        let others = per_second(settings.session_rate, settings.session_rate.saturating_mul(2));
        Self {
            attested: Rates {
                renewals: Rate::new(renewal, clock),
                delegated: Divided::new(per_second(DELEGATED_PER_SECOND, DELEGATED_BURST), clock),
                delegations: Divided::new(per_second(DELEGATIONS_PER_SECOND, DELEGATIONS_BURST), clock),
            },
            others: Rates {
                renewals: Rate::new(others, clock),
                delegated: Divided::new(others, clock),
                delegations: Divided::new(others, clock),
            },
            most_open: settings.max_open_delegations,
            open_delegations: OpenDelegations::new(clock),
        }
    }

    /// Counts one against the bearer's rate for this action; when that is used up, in how many seconds it may try
    /// again.
    pub(super) fn check_rate(&self, action: SessionAction, bearer: &Claims) -> Result<(), u32> {
        let (rates, key): (_, &str) = if bearer.is_attested() {
            (&self.attested, &bearer.task_id)
        } else {
            (&self.others, &bearer.sid)
        };
        match (action, bearer.branch()) {
            (SessionAction::Delegate, branch) => rates.delegations.check_rate(key, branch.map(SessionId::as_str)),
            (SessionAction::Renew, Some(branch)) => rates.delegated.check_rate(key, Some(branch)),
            (SessionAction::Renew, None) => rates.renewals.check_rate(key),
        }
    }

    /// How many delegations may stand under the session of a bearer; `None` for any number.
    pub(super) fn most_open(&self, bearer: &Claims) -> Option<usize> {
        let most = if bearer.is_attested() {
            MOST_OPEN
        } else {
            self.most_open
        };
        (most > 0).then_some(most)
    }

    /// The branch of a bearer, and how many delegations may stand below it; `None` for as many as under the session.
    pub(super) fn most_below<'b>(&self, bearer: &'b Claims) -> Option<(&'b SessionId, usize)> {
        let most = self.most_open(bearer).filter(|most| *most <= MOST_SHARED)?;
        Some((bearer.branch()?, (most / 2).max(1)))
    }

    pub(super) fn open_delegations(&self) -> &OpenDelegations {
        &self.open_delegations
    }

    pub(super) fn prune(&self) {
        self.attested.prune();
        self.others.prune();
        self.open_delegations.prune();
    }
}

/// How many delegations can be opened under a session before those that stand must be counted again. What ended
/// meanwhile only makes more room than that, so that few delegations cost a count.
pub(super) struct OpenDelegations {
    clock: Arc<dyn Clock>,
    roots: Mutex<HashMap<SessionId, Counted>>,
}

struct Counted {
    left: usize,
    at: Duration,
}

impl OpenDelegations {
    fn new(clock: &Arc<dyn Clock>) -> Self {
        Self {
            clock: Arc::clone(clock),
            roots: Mutex::default(),
        }
    }

    /// Takes a place under this session.
    pub(super) fn take(&self, root: &SessionId) -> Place {
        let now = self.clock.monotonic();
        let mut roots = self.roots.lock();
        match roots.get_mut(root) {
            Some(counted) if counted.left > 0 => {
                counted.left -= 1;
                Place::Taken
            }
            Some(counted) if now.saturating_sub(counted.at) < COUNTED_EVERY => Place::NoneLeft,
            _ => Place::NotCounted,
        }
    }

    /// Remembers how many places a count has found.
    pub(super) fn set_left(&self, root: &SessionId, left: usize) {
        let at = self.clock.monotonic();
        let mut roots = self.roots.lock();
        if roots.len() >= MOST_ROOTS && !roots.contains_key(root) {
            // They are counted again when they next delegate.
            roots.clear();
        }
        roots.insert(root.clone(), Counted { left, at });
    }

    /// Forgets sessions that have not been counted for a while.
    fn prune(&self) {
        const FORGOTTEN: Duration = Duration::from_mins(5);
        let now = self.clock.monotonic();
        let mut roots = self.roots.lock();
        roots.retain(|_, counted| now.saturating_sub(counted.at) < FORGOTTEN);
        roots.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use agentwrit_protocol::clock::ManualClock;

    use super::*;

    #[test]
    fn places_are_taken_until_a_count_is_due() {
        let manual = Arc::new(ManualClock::at(0));
        let clock: Arc<dyn Clock> = manual.clone();
        let open = OpenDelegations::new(&clock);
        assert_eq!(open.take(&"a".into()), Place::NotCounted);
        open.set_left(&"a".into(), 2);
        assert_eq!(
            [open.take(&"a".into()), open.take(&"a".into()), open.take(&"a".into())],
            [Place::Taken, Place::Taken, Place::NoneLeft]
        );
        assert_eq!(open.take(&"b".into()), Place::NotCounted);
        manual.advance(1);
        assert_eq!(open.take(&"a".into()), Place::NotCounted);
        open.set_left(&"a".into(), 0);
        assert_eq!(open.take(&"a".into()), Place::NoneLeft);
    }

    #[test]
    fn the_table_of_open_delegations_is_bounded() {
        let manual = Arc::new(ManualClock::at(0));
        let clock: Arc<dyn Clock> = manual.clone();
        let open = OpenDelegations::new(&clock);
        let len = |open: &OpenDelegations| open.roots.lock().len();
        for number in 0..3 * MOST_ROOTS {
            open.set_left(&number.to_string().into(), 1);
            assert!(len(&open) <= MOST_ROOTS);
        }
        assert_eq!(
            open.take(&"0".into()),
            Place::NotCounted,
            "counted again, so that nobody gets more than its cap"
        );
        manual.advance(300);
        open.prune();
        assert_eq!(len(&open), 0);
    }
}
