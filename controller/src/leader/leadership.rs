//! Whether this replica may write, and by which lease epoch; everything else asks here.

use agentwrit_protocol::StoreMark;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::pki::PkiError;

/// The right to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Until then, by our monotonic clock.
    pub(crate) until: Instant,
    /// `leaseTransitions`: the lease epoch of our writes.
    pub epoch: i64,
}

/// Where the broker's store stood when the holder of this lease epoch asked.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) lead: i64,
    pub(super) mark: StoreMark,
}

/// The one place that knows whether this replica may write.
#[derive(Debug, Clone)]
pub struct Leadership {
    claim: watch::Receiver<Option<Claim>>,
    raise: mpsc::Sender<i64>,
    /// Told when this replica can't do what the leader has to.
    unfit: watch::Sender<()>,
    annotated: watch::Receiver<Option<String>>,
    seen: watch::Sender<Option<Seen>>,
}

impl Leadership {
    pub(super) fn new(
        claim: watch::Receiver<Option<Claim>>,
        raise: mpsc::Sender<i64>,
        annotated: watch::Receiver<Option<String>>,
        seen: watch::Sender<Option<Seen>>,
    ) -> Self {
        Self {
            claim,
            raise,
            unfit: watch::Sender::new(()),
            annotated,
            seen,
        }
    }

    /// Hears each time that this replica can't do what the leader has to.
    pub(crate) fn unfit(&self) -> watch::Receiver<()> {
        self.unfit.subscribe()
    }

    /// Lets another replica lead when the API server says that this one has no right to what the leader needs: certificates are
    /// kept in another way from now on, and it is one of before.
    pub(crate) fn cede_when_forbidden(&self, error: &PkiError) {
        if error.is_forbidden() {
            self.unfit.send_replace(());
        }
    }

    /// One that stays as it is: a claim of this epoch without an end, or none.
    #[cfg(test)]
    pub(crate) fn fixed(epoch: Option<i64>) -> Self {
        let until = Instant::now() + std::time::Duration::from_hours(1000);
        let claim = watch::channel(epoch.map(|epoch| Claim { until, epoch })).1;
        Self::new(
            claim,
            mpsc::channel(1).0,
            watch::channel(None).1,
            watch::channel(None).0,
        )
    }

    /// The claim, while it is valid.
    pub fn claim(&self) -> Option<Claim> {
        (*self.claim.borrow()).filter(|claim| Instant::now() < claim.until)
    }

    /// Waits until this replica leads.
    pub(crate) async fn gained(&self) {
        let mut claim = self.claim.clone();
        loop {
            if self.claim().is_some() {
                return;
            }
            if claim.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until this replica leads by another lease epoch than this one.
    pub(crate) async fn led_anew(&self, since: i64) {
        let mut claim = self.claim.clone();
        loop {
            if self.claim().is_some_and(|claim| claim.epoch != since) {
                return;
            }
            if claim.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// What is remembered of the broker's store under this claim: what the broker said last, before that what the
    /// Lease said.
    pub fn mark(&self, claim: Claim) -> Option<String> {
        let seen = self.seen.borrow();
        match seen.as_ref().filter(|seen| seen.lead == claim.epoch) {
            Some(seen) => Some(seen.mark.text()),
            None => self.annotated.borrow().clone(),
        }
    }

    /// Remembers the mark of the broker's store; the holder's next write of the Lease takes it over.
    pub fn remember(&self, claim: Claim, mark: StoreMark) {
        let lead = claim.epoch;
        self.seen.send_if_modified(|seen| {
            let later = seen
                .as_ref()
                .is_none_or(|seen| seen.lead < lead || (seen.lead == lead && !mark.is_behind(&seen.mark)));
            if later {
                *seen = Some(Seen { lead, mark });
            }
            later
        });
    }

    /// The broker has seen `epoch`: the holder, confirmed by its next write of the Lease, sets a higher one.
    pub(crate) fn raise_above(&self, epoch: i64) {
        // A full queue means that such a request is under way.
        let _ = self.raise.try_send(epoch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(epoch: &str, sequence: i64) -> StoreMark {
        StoreMark {
            epoch: epoch.repeat(16),
            sequence,
            head: "a1".repeat(32),
        }
    }

    #[test]
    fn an_earlier_term_of_leadership_is_not_shown() {
        let (_claim, claim_reader) = watch::channel(None);
        let (annotated, annotated_reader) = watch::channel(None);
        let leadership = Leadership {
            claim: claim_reader,
            raise: mpsc::channel(1).0,
            unfit: watch::Sender::new(()),
            annotated: annotated_reader,
            seen: watch::channel(None).0,
        };
        let claim = |epoch| Claim {
            until: Instant::now(),
            epoch,
        };
        assert_eq!(leadership.mark(claim(1)), None);
        annotated.send_replace(Some("as annotated".to_owned()));
        assert_eq!(leadership.mark(claim(1)).as_deref(), Some("as annotated"));
        leadership.remember(claim(1), mark("0a", 5));
        leadership.remember(claim(1), mark("0a", 4));
        assert_eq!(leadership.mark(claim(1)), Some(mark("0a", 5).text()));
        assert_eq!(leadership.mark(claim(2)).as_deref(), Some("as annotated"));
        leadership.remember(claim(2), mark("0b", 1));
        leadership.remember(claim(1), mark("0a", 9));
        assert_eq!(leadership.mark(claim(2)), Some(mark("0b", 1).text()));
    }
}
