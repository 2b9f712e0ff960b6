//! Works off hints, and tells the broker of ends.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::k8s::LivePod;
use kube::Client;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::known::Known;
use super::{CONCURRENCY, PodError, cluster};
use crate::leader::leadership::Leadership;
use crate::metrics::Metrics;
use crate::policy_client::{Broker, BrokerError};
use crate::report::Reporter;

/// Between the attempts for one hint. What can't be done in that time, the comparison does later.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

/// Confirms ends and tells the broker.
pub struct Ender {
    pub(super) client: Client,
    broker: Arc<Broker>,
    leadership: Leadership,
    pub(super) known: Arc<Known>,
    pub(super) reporter: Reporter,
    pub(super) metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Ender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ender").finish_non_exhaustive()
    }
}

/// Why an end isn't known to the broker.
pub(super) enum Trouble {
    Broker(BrokerError),
    Api(PodError),
}

impl Ender {
    /// An ender that shares `known` with watch and comparison.
    pub fn new(
        client: Client,
        broker: Arc<Broker>,
        leadership: Leadership,
        known: Arc<Known>,
        reporter: Reporter,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            client,
            broker,
            leadership,
            known,
            reporter,
            metrics,
        }
    }

    /// Our lease epoch while we lead.
    pub(super) fn lead(&self) -> Option<i64> {
        self.leadership.claim().map(|claim| claim.epoch)
    }

    /// Works off hints for ever, a few at once.
    pub async fn work(self: Arc<Self>, mut hints: mpsc::Receiver<LivePod>) {
        let permits = Arc::new(Semaphore::new(CONCURRENCY));
        while let Some(pod) = hints.recv().await {
            // Who begins to lead compares everything.
            if self.lead().is_none() || !self.known.begin(&pod.uid) {
                continue;
            }
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                return;
            };
            let ender = Arc::clone(&self);
            tokio::spawn(async move {
                let told = ender.follow(&pod).await;
                ender.known.finish(&pod.uid, told);
                drop(permit);
            });
        }
    }

    /// When the broker was told, if the pod has ended and that was possible soon.
    async fn follow(&self, pod: &LivePod) -> Option<Instant> {
        let mut pauses = PAUSES.into_iter();
        loop {
            let trouble = match self.try_end(pod).await {
                Ok(told) => return told,
                Err(trouble) => trouble,
            };
            let pause = pauses.next();
            match trouble {
                Trouble::Broker(BrokerError::NotLeader) => return None,
                Trouble::Broker(error @ BrokerError::Refused { .. }) => {
                    let doing = "telling the broker of a pod's end";
                    self.reporter.own_trouble(doing, "PodEndsNotTold", &error).await;
                    return None;
                }
                Trouble::Broker(error) => tracing::debug!(pod = pod.name, %error, "a pod's end waits for the broker"),
                Trouble::Api(error) if pause.is_none() => {
                    let doing = "confirming a pod's end";
                    self.reporter.own_trouble(doing, "PodsNotCompared", &error).await;
                }
                Trouble::Api(_) => {}
            }
            tokio::time::sleep(pause?).await;
        }
    }

    async fn try_end(&self, pod: &LivePod) -> Result<Option<Instant>, Trouble> {
        let confirmed = cluster::confirm(&self.client, pod).await.map_err(Trouble::Api)?;
        let Some(reason) = confirmed else { return Ok(None) };
        self.tell(pod, reason).await.map_err(Trouble::Broker).map(Some)
    }

    /// Tells the broker of an end that is confirmed; answers when.
    pub(super) async fn tell(&self, pod: &LivePod, reason: &'static str) -> Result<Instant, BrokerError> {
        let revoked = self.broker.pod_ended(pod, reason).await?;
        self.metrics.pods_ended.inc();
        tracing::info!(
            namespace = pod.namespace,
            pod = pod.name,
            uid = pod.uid,
            reason,
            revoked,
            "a pod ended"
        );
        Ok(Instant::now())
    }
}
