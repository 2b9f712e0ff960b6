//! Confirms suspected ends and reports pods that ended to the broker.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::k8s::LivePod;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::known::KnownPods;
use super::{CONCURRENCY, PodError, cluster};
use crate::context::Context;
use crate::policy_client::BrokerError;

/// Pauses between the attempts for one suspected end. What fails in that time, the comparison does later.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

/// Confirms ends and reports them to the broker.
pub(super) struct PodEndReporter {
    pub(super) context: Arc<Context>,
    pub(super) known: Arc<KnownPods>,
}

/// Why an end wasn't reported.
pub(super) enum NotReported {
    Broker(BrokerError),
    Api(PodError),
}

impl PodEndReporter {
    /// A reporter that shares `known` with watch and comparison.
    pub(super) fn new(context: Arc<Context>, known: Arc<KnownPods>) -> Self {
        Self { context, known }
    }

    /// Our lease epoch while we lead.
    pub(super) fn lead(&self) -> Option<i64> {
        self.context.leadership.claim().map(|claim| claim.epoch)
    }

    /// Handles suspected ends for ever, a few at once.
    pub(super) async fn run(self: Arc<Self>, mut suspected: mpsc::Receiver<LivePod>) {
        let permits = Arc::new(Semaphore::new(CONCURRENCY));
        while let Some(pod) = suspected.recv().await {
            // A new leader compares everything.
            if self.lead().is_none() || !self.known.begin(&pod.uid) {
                continue;
            }
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                return;
            };
            let this = Arc::clone(&self);
            tokio::spawn(async move {
                let reported = this.report_with_retries(&pod).await;
                this.known.finish(&pod.uid, reported);
                drop(permit);
            });
        }
    }

    /// When the end was reported, if the pod has ended and the broker could be reached soon.
    async fn report_with_retries(&self, pod: &LivePod) -> Option<Instant> {
        let mut pauses = PAUSES.into_iter();
        loop {
            let error = match self.report_end(pod).await {
                Ok(reported) => return reported,
                Err(error) => error,
            };
            let pause = pauses.next();
            match error {
                NotReported::Broker(BrokerError::NotLeader) => return None,
                NotReported::Broker(error @ BrokerError::Refused { .. }) => {
                    let doing = "reporting an ended pod to the broker";
                    self.context
                        .reporter
                        .own_recurring(doing, "PodEndsNotTold", &error)
                        .await;
                    return None;
                }
                NotReported::Broker(error) => {
                    tracing::debug!(pod = pod.name, %error, "the report of an ended pod waits for the broker");
                }
                NotReported::Api(error) if pause.is_none() => {
                    let doing = "confirming a pod's end";
                    self.context
                        .reporter
                        .own_recurring(doing, "PodsNotCompared", &error)
                        .await;
                }
                NotReported::Api(_) => {}
            }
            tokio::time::sleep(pause?).await;
        }
    }

    /// Confirms that the pod has ended and reports it; `None` when it hasn't.
    async fn report_end(&self, pod: &LivePod) -> Result<Option<Instant>, NotReported> {
        let confirmed = cluster::confirm(&self.context.client, pod)
            .await
            .map_err(NotReported::Api)?;
        let Some(reason) = confirmed else { return Ok(None) };
        self.report_confirmed(pod, reason)
            .await
            .map_err(NotReported::Broker)
            .map(Some)
    }

    /// Reports a confirmed end to the broker; returns when.
    pub(super) async fn report_confirmed(&self, pod: &LivePod, reason: &'static str) -> Result<Instant, BrokerError> {
        let revoked = self.context.broker.pod_ended(pod, reason).await?;
        self.context.metrics.pods_ended.inc();
        tracing::info!(
            namespace = pod.namespace,
            pod = pod.name,
            uid = pod.uid.as_str(),
            reason,
            revoked,
            "a pod ended"
        );
        Ok(Instant::now())
    }
}
