//! The one way of a denial into the trail: so many of one source or subject are audited, further ones are counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agentwrit_protocol::{Clock, PodUid};
use agentwrit_server::Source;
use agentwrit_store::{Asker, EventDraft};
use governor::Quota;
use prometheus::IntCounter;

use super::divided::Divided;
use super::limit::Limit;

/// The rates of audited denials, and how many were only counted.
pub(super) struct Gate {
    sources: Limit,
    known: Limit,
    pods: Limit,
    delegates: Divided,
    feed: Limit,
    suppressed: AtomicU64,
    counter: IntCounter,
}

impl Gate {
    pub(super) fn new(quota: Option<Quota>, clock: &Arc<dyn Clock>, counter: IntCounter) -> Self {
        Self {
            sources: Limit::new(quota, clock),
            known: Limit::new(quota, clock),
            pods: Limit::new(quota, clock),
            delegates: Divided::new(quota, clock),
            feed: Limit::new(quota, clock),
            suppressed: AtomicU64::new(0),
            counter,
        }
    }

    /// Counts one against this asker's rate; false when the rate is used up, and the denial was only counted.
    pub(super) fn admits(&self, asker: Asker<'_>) -> bool {
        let allowed = match asker {
            Asker::Source(address) => self.sources.allows(Source::of(address)),
            Asker::Known(name) => self.known.allows(name),
            Asker::Pod(uid) => self.pods.allows(uid),
            Asker::Delegate { session, branch } => self.delegates.check_rate(session, Some(branch)).is_ok(),
        };
        if !allowed {
            self.suppress();
        }
        allowed
    }

    /// Whether a denial of this pod goes into the feed for the controller, whatever the trail does with it.
    pub(super) fn feeds(&self, pod_uid: &PodUid) -> bool {
        self.feed.allows(pod_uid)
    }

    /// Counts a denial that the trail will hold only as a number.
    pub(super) fn suppress(&self) {
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        self.counter.inc();
    }

    /// How many were counted since the last call, and the event that says so.
    pub(super) fn take_suppressed(&self) -> Option<(u64, EventDraft)> {
        let suppressed = self.suppressed.swap(0, Ordering::Relaxed);
        (suppressed > 0).then(|| (suppressed, EventDraft::suppressed(suppressed)))
    }

    /// Counts those again whose event could not be written.
    pub(super) fn restore_suppressed(&self, suppressed: u64) {
        self.suppressed.fetch_add(suppressed, Ordering::Relaxed);
    }

    pub(super) fn prune(&self) {
        self.sources.prune();
        self.known.prune();
        self.pods.prune();
        self.delegates.prune();
        self.feed.prune();
    }
}
