//! Leadership by a `coordination.k8s.io` Lease.
//!
//! Only the holder writes. `leaseTransitions` rises with every change of hands, start of a process included, and goes
//! to the broker with every write as the lease epoch. Expiry of another's Lease is judged by our own monotonic clock:
//! how long its record stayed the same while we looked.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::{Clock, StoreMark};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::leadership::{Claim, Leadership, Seen};
use super::lease_step::{Memory, Step, decide};
use crate::kubernetes_time::timestamp;
use crate::metrics::Metrics;
use crate::report::{Categorised, Category, Reporter};

/// Name of the Lease, in the release namespace.
pub(crate) const LEASE_NAME: &str = "agentwrit-controller";
/// After this long without renewal another replica may take the Lease.
pub(crate) const LEASE_DURATION: Duration = Duration::from_secs(15);

/// Reason of the Event while the Lease can't be read or written.
const LEASE_NOT_KEPT: &str = "LeaseNotKept";

/// Annotation with the mark of the broker's store.
pub const MARK_ANNOTATION: &str = "agentwrit.io/store-mark";

/// What follows from the duration of the Lease; the figures are for 15 s.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// After this long without renewal another replica may take the Lease.
    lease: Duration,
    /// How often the holder renews, and how long one call may take: 4 s.
    renew: Duration,
    /// How often the others look: 2 s.
    look: Duration,
    /// How long the holder may write after a renewal: 12 s, so that it stops before the others may take over.
    claim: Duration,
    /// How long a holder that is unfit leaves the Lease to others: 45 s.
    cede: Duration,
}

impl Times {
    fn of(lease: Duration) -> Self {
        Self {
            lease,
            renew: lease * 4 / 15,
            look: lease * 2 / 15,
            claim: lease * 4 / 5,
            cede: lease * 3,
        }
    }
}

/// Why the Lease couldn't be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    /// The API server refused or didn't answer.
    #[error("the Lease {LEASE_NAME} can't be read or written")]
    Api(#[source] Box<kube::Error>),
    /// It took too long.
    #[error("the API server didn't answer about the Lease {LEASE_NAME} in time")]
    Timeout,
}

impl Categorised for LeaseError {
    fn category(&self) -> Category {
        Category::Lease
    }
}

/// Keeps the Lease; runs until the process ends.
pub struct Elector {
    api: Api<Lease>,
    namespace: String,
    identity: String,
    clock: Arc<dyn Clock>,
    reporter: Reporter,
    metrics: Arc<Metrics>,
    claim: watch::Sender<Option<Claim>>,
    raise: mpsc::Receiver<i64>,
    annotated: watch::Sender<Option<String>>,
    seen: watch::Receiver<Option<Seen>>,
    unfit: watch::Receiver<()>,
    /// Since when this replica leads.
    led_since: Option<Instant>,
    has_ceded: bool,
    memory: Memory,
    times: Times,
}

impl std::fmt::Debug for Elector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Elector")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl Elector {
    /// An elector for this pod, and the handle that everything else asks.
    pub fn new(
        client: Client,
        namespace: &str,
        identity: &str,
        clock: Arc<dyn Clock>,
        reporter: Reporter,
        metrics: Arc<Metrics>,
    ) -> (Self, Leadership) {
        let (claim, claim_reader) = watch::channel(None);
        let (raise, raise_reader) = mpsc::channel(1);
        let (annotated, annotated_reader) = watch::channel(None);
        let (seen, seen_reader) = watch::channel(None);
        let leadership = Leadership::new(claim_reader, raise, annotated_reader, seen);
        let elector = Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            identity: identity.to_owned(),
            clock,
            reporter,
            metrics,
            claim,
            raise: raise_reader,
            annotated,
            seen: seen_reader,
            unfit: leadership.unfit(),
            led_since: None,
            has_ceded: false,
            memory: Memory::default(),
            times: Times::of(LEASE_DURATION),
        };
        (elector, leadership)
    }

    /// With another duration of the Lease.
    #[must_use]
    pub fn lasting(mut self, lease: Duration) -> Self {
        self.times = Times::of(lease);
        self
    }

    /// Takes and renews the Lease until `stop` resolves, then gives it back.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            let held = match self.step().await {
                Ok(held) => {
                    self.reporter.own_recovered(LEASE_NOT_KEPT);
                    held
                }
                Err(error) => {
                    // The Event would wait for the same API server; the Lease doesn't.
                    let reporter = self.reporter.clone();
                    tokio::spawn(async move {
                        reporter
                            .own_recurring("keeping the Lease", LEASE_NOT_KEPT, &error)
                            .await;
                    });
                    self.expire();
                    self.claim.borrow().is_some()
                }
            };
            let pause = if held { self.times.renew } else { self.times.look };
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(pause) => {}
                Some(epoch) = self.raise.recv() => {
                    tracing::info!(epoch, "the broker knows a higher lease epoch; raising ours above it");
                    self.memory.above = self.memory.above.max(epoch);
                }
                Ok(()) = self.unfit.changed() => if self.may_cede() {
                    tracing::warn!("this replica has no right to what the leader needs: for a while, another one may lead");
                    self.has_ceded = true;
                    self.release().await;
                    tokio::select! {
                        () = &mut stop => return,
                        () = tokio::time::sleep(self.times.cede) => {}
                    }
                },
            }
        }
        self.release().await;
    }

    /// Reads the Lease once and acts on it; returns whether we hold it then.
    async fn step(&mut self) -> Result<bool, LeaseError> {
        let started = Instant::now();
        let present = self.timed(self.api.get_opt(LEASE_NAME)).await?;
        // Before the claim: the leader shows it to the broker.
        self.annotated.send_replace(present.as_ref().and_then(annotation));
        let step = decide(&mut self.memory, &self.identity, present.as_ref(), Instant::now());
        let (lease, epoch) = match step {
            Step::Wait => {
                self.give_up();
                return Ok(false);
            }
            Step::Create(epoch) | Step::TakeOver(epoch) => (self.record(present, epoch, true), epoch),
            Step::Renew => {
                let epoch = self.memory.epoch.unwrap_or_default();
                (self.record(present, epoch, false), epoch)
            }
        };
        let written = if matches!(step, Step::Create(_)) {
            self.timed(self.api.create(&PostParams::default(), &lease)).await
        } else {
            // With resourceVersion: of two that try, one is refused.
            self.timed(self.api.replace(LEASE_NAME, &PostParams::default(), &lease))
                .await
        };
        match written {
            Ok(_) => {}
            Err(LeaseError::Api(error)) if matches!(&*error, kube::Error::Api(status) if status.code == 409) => {
                self.expire();
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        if self.memory.epoch != Some(epoch) {
            tracing::info!(epoch, "this replica leads");
            self.led_since = Some(started);
        }
        self.memory.epoch = Some(epoch);
        self.memory.foreign = None;
        self.metrics.leader.set(1);
        self.claim.send_replace(Some(Claim {
            until: started + self.times.claim,
            epoch,
        }));
        Ok(true)
    }

    /// Whether it is time to leave the Lease to others: at once the first time. When nobody is fit, an unfit one still leads
    /// most of the time: it can do everything else.
    fn may_cede(&self) -> bool {
        let is_long = self
            .led_since
            .is_some_and(|since| since.elapsed() >= self.times.cede * 2);
        self.claim.borrow().is_some() && (is_long || !self.has_ceded)
    }

    fn record(&self, present: Option<Lease>, epoch: i64, acquire: bool) -> Lease {
        let now = MicroTime(timestamp(self.clock.unix_seconds()));
        let mut lease = present.unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(LEASE_NAME.to_owned()),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        if let Some(seen) = self.seen.borrow().as_ref().filter(|seen| seen.lead == epoch) {
            annotate(&mut lease, &seen.mark);
        }
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if acquire {
            spec.acquire_time = Some(now.clone());
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = i32::try_from(self.times.lease.as_secs()).ok();
        spec.renew_time = Some(now);
        spec.lease_transitions = Some(i32::try_from(epoch).unwrap_or(i32::MAX));
        lease
    }

    async fn timed<T>(&self, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, LeaseError> {
        match tokio::time::timeout(self.times.renew, call).await {
            Ok(result) => result.map_err(|error| LeaseError::Api(Box::new(error))),
            Err(_) => Err(LeaseError::Timeout),
        }
    }

    /// Another one holds the Lease.
    fn give_up(&mut self) {
        if self.memory.epoch.take().is_some() {
            tracing::warn!("this replica no longer leads: another one holds the Lease");
        }
        self.metrics.leader.set(0);
        self.claim.send_if_modified(|claim| claim.take().is_some());
    }

    /// We couldn't renew: the claim is valid until its time, no longer.
    fn expire(&mut self) {
        let expired = self.claim.borrow().is_some_and(|claim| claim.until <= Instant::now());
        if expired {
            tracing::warn!("this replica no longer leads: the Lease couldn't be renewed in time");
            self.metrics.leader.set(0);
            self.claim.send_replace(None);
            self.memory.lapse();
        }
    }

    async fn release(&mut self) {
        self.claim.send_replace(None);
        self.metrics.leader.set(0);
        let Some(epoch) = self.memory.epoch.take() else {
            return;
        };
        let result: Result<(), LeaseError> = async {
            let Some(mut lease) = self.timed(self.api.get_opt(LEASE_NAME)).await? else {
                return Ok(());
            };
            let Some(spec) = lease.spec.as_mut() else {
                return Ok(());
            };
            if spec.holder_identity.as_deref() != Some(self.identity.as_str())
                || spec.lease_transitions.map(i64::from) != Some(epoch)
            {
                return Ok(());
            }
            spec.holder_identity = Some(String::new());
            self.timed(self.api.replace(LEASE_NAME, &PostParams::default(), &lease))
                .await?;
            Ok(())
        }
        .await;
        if let Err(error) = result {
            self.reporter.error("giving the Lease back", &error);
        }
    }
}

fn annotation(lease: &Lease) -> Option<String> {
    lease.metadata.annotations.as_ref()?.get(MARK_ANNOTATION).cloned()
}

/// Writes the mark; never a lower one of the same store.
fn annotate(lease: &mut Lease, mark: &StoreMark) {
    let present = annotation(lease).and_then(|text| StoreMark::parse(&text).ok());
    if present.is_none_or(|present| !mark.is_behind(&present)) {
        let annotations = lease.metadata.annotations.get_or_insert_default();
        annotations.insert(MARK_ANNOTATION.to_owned(), mark.text());
    }
}

#[cfg(test)]
mod tests {
    use super::super::lease_step::tests::lease;
    use super::*;

    fn mark(epoch: &str, sequence: i64) -> StoreMark {
        StoreMark {
            epoch: epoch.repeat(16),
            sequence,
            head: "a1".repeat(32),
        }
    }

    #[test]
    fn the_holder_stops_writing_before_another_may_take_over() {
        let times = Times::of(LEASE_DURATION);
        let seconds = [times.renew, times.look, times.claim, times.cede].map(|time| time.as_secs());
        assert_eq!(seconds, [4, 2, 12, 45]);
        let times = Times::of(Duration::from_secs(5));
        assert!(times.claim < times.lease);
        assert!(times.renew * 2 < times.claim, "one renewal may fail");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unfit_holder_cedes_at_once_and_later_now_and_then() {
        let never = |_: axum::http::Request<kube::client::Body>| {
            std::future::pending::<Result<axum::http::Response<kube::client::Body>, std::convert::Infallible>>()
        };
        let client = Client::new(tower::service_fn(never), "system");
        let metrics = Arc::new(Metrics::new().unwrap());
        let reporter = Reporter::new(client.clone(), "system", "a", Arc::clone(&metrics));
        let clock = Arc::new(agentwrit_protocol::clock::ManualClock::at(1));
        let (mut elector, _leadership) = Elector::new(client, "system", "a", clock, reporter, metrics);
        let claim = Claim {
            until: Instant::now(),
            epoch: 1,
        };
        assert!(!elector.may_cede(), "it doesn't lead");
        elector.claim.send_replace(Some(claim));
        elector.led_since = Some(Instant::now());
        assert!(elector.may_cede());
        elector.has_ceded = true;
        assert!(!elector.may_cede());
        tokio::time::advance(Duration::from_secs(89)).await;
        assert!(!elector.may_cede());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(elector.may_cede());
    }

    #[test]
    fn a_mark_is_never_lowered_but_for_another_store() {
        let mut lease = lease("a", 1, 1);
        assert_eq!(annotation(&lease), None);
        for (given, wanted) in [
            (mark("0a", 5), mark("0a", 5)),
            (mark("0a", 4), mark("0a", 5)),
            (mark("0a", 6), mark("0a", 6)),
            (mark("0b", 1), mark("0b", 1)),
        ] {
            annotate(&mut lease, &given);
            assert_eq!(annotation(&lease), Some(wanted.text()));
        }
        let rubbish = ("rubbish".to_owned(), MARK_ANNOTATION.to_owned());
        lease
            .metadata
            .annotations
            .get_or_insert_default()
            .insert(rubbish.1, rubbish.0);
        annotate(&mut lease, &mark("0a", 1));
        assert_eq!(annotation(&lease), Some(mark("0a", 1).text()));
    }
}
