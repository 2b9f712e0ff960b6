//! The one way of a denial into the trail: so many of one source or subject are audited, further ones are counted.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agentwrit_protocol::Clock;
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::claims::Claims;
use agentwrit_server::Source;
use governor::Quota;

use super::divided::Divided;
use super::limit::Limit;
use crate::metrics::Metrics;
use crate::store::{DenialDraft, EventDraft};

/// Whose denials count together. Nobody can use up what another one's denials pass by: who holds a delegated token
/// hides neither the denials of the session nor those of its other delegates, and no token hides those of a launch.
#[derive(Debug, Clone, Copy)]
pub enum Asker<'a> {
    /// A network address: its source, for a caller whose credential isn't verified.
    Source(IpAddr),
    /// Who a token or the API server vouches for, other than a pod: a session, a subject, a ServiceAccount.
    Known(&'a str),
    /// A pod by its UID, when the API server vouches for it.
    Pod(&'a str),
    /// Who holds a token that a session delegated.
    Delegate {
        /// The session, or its pod.
        session: &'a str,
        /// The delegation by the session itself that the token descends from.
        branch: &'a str,
    },
}

impl<'a> Asker<'a> {
    /// The bearer of a verified token. An attested agent counts by its pod, however often it registers.
    pub fn bearer(claims: &'a Claims) -> Self {
        let session = if claims.is_attested() {
            &claims.task_id
        } else if claims.sid.is_empty() {
            &claims.sub
        } else {
            &claims.sid
        };
        match claims.branch() {
            Some(branch) => Self::Delegate { session, branch },
            None => Self::Known(session),
        }
    }
}

/// That the gate let a denial through: nobody else can make one.
pub struct Passed(());

/// The rates of audited denials, and how many were only counted.
pub(super) struct Gate {
    sources: Limit,
    known: Limit,
    pods: Limit,
    delegates: Divided,
    feed: Limit,
    suppressed: AtomicU64,
    metrics: Arc<Metrics>,
}

impl Gate {
    pub(super) fn new(quota: Option<Quota>, clock: &Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self {
            sources: Limit::new(quota, clock),
            known: Limit::new(quota, clock),
            pods: Limit::new(quota, clock),
            delegates: Divided::new(quota, clock),
            feed: Limit::new(quota, clock),
            suppressed: AtomicU64::new(0),
            metrics,
        }
    }

    /// The event of a denial; `None` when it is only counted.
    pub(super) fn pass(&self, asker: Asker<'_>, denial: DenialDraft) -> Option<EventDraft> {
        let allowed = match asker {
            Asker::Source(address) => self.sources.allows(Source::of(address)),
            Asker::Known(name) => self.known.allows(name),
            Asker::Pod(uid) => self.pods.allows(uid),
            Asker::Delegate { session, branch } => self.delegates.turn(session, Some(branch)).is_ok(),
        };
        if !allowed {
            self.suppress();
        }
        allowed.then(|| denial.passed(&Passed(())))
    }

    /// Whether a denial of this pod goes into the feed for the controller, whatever the trail does with it.
    pub(super) fn feeds(&self, pod_uid: &str) -> bool {
        self.feed.allows(pod_uid)
    }

    /// Counts a denial that the trail will hold only as a number.
    pub(super) fn suppress(&self) {
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        self.metrics.denials_suppressed.inc();
    }

    /// How many were counted since the last call, and the event that says so.
    pub(super) fn take_suppressed(&self) -> Option<(u64, EventDraft)> {
        let suppressed = self.suppressed.swap(0, Ordering::Relaxed);
        let told = || {
            let denial = DenialDraft::denied(EventType::TokenAuthFailed, format!("suppressed={suppressed}"));
            denial.error_kind("suppressed").passed(&Passed(()))
        };
        (suppressed > 0).then(|| (suppressed, told()))
    }

    /// Counts those again that could not be told.
    pub(super) fn untold(&self, suppressed: u64) {
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
