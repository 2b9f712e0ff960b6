//! Compares the broker's pods with the cluster's, after each refresh: what the watch missed or what failed
//! is found again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agentwrit_protocol::k8s::LivePod;
use futures_util::{StreamExt, stream};
use kube::Client;
use tokio::sync::watch;
use tokio::time::Instant;

use super::known::KnownPods;
use super::reporter::PodEndReporter;
use super::safety::{Decision, Safety};
use super::{BrokersPods, CONCURRENCY, Gone, PodError, cluster};
use crate::policy_client::BrokerError;

/// How often the cluster's pods are listed for it; in between, what the watch knows is good enough.
const LIST_EVERY: Duration = Duration::from_mins(5);

pub(super) struct Comparer {
    ends: Arc<PodEndReporter>,
    search: Search,
}

impl Comparer {
    /// A comparer that reports the ends it finds by `ends`.
    pub(super) fn new(ends: Arc<PodEndReporter>) -> Self {
        Self {
            ends,
            search: Search::default(),
        }
    }

    /// Compares after each refresh of the broker's list, and when the watch of pods had to start again; runs for ever.
    pub(super) async fn run(mut self, mut refreshes: watch::Receiver<Option<Arc<BrokersPods>>>) {
        loop {
            tokio::select! {
                changed = refreshes.changed() => if changed.is_err() { return },
                () = self.ends.known.listed() => {}
            }
            let list = refreshes.borrow_and_update().clone();
            if let Some(list) = list
                && self.ends.lead() == Some(list.lead)
            {
                self.compare(&list).await;
            }
        }
    }

    async fn compare(&mut self, list: &BrokersPods) {
        let ends = &self.ends;
        let (decision, error) = self.search.ended(&ends.context.client, &ends.known, list).await;
        if let Some(error) = error {
            ends.context
                .reporter
                .own_recurring("comparing pods", "PodsNotCompared", &error)
                .await;
        } else {
            ends.context.reporter.own_recovered("PodsNotCompared");
        }
        if decision.report {
            let error = PodError::MostAreGone {
                gone: decision.gone,
                all: list.pods.len(),
                held_back: decision.held_back,
            };
            ends.context.metrics.safety_stops.inc();
            ends.context
                .reporter
                .error_on("comparing pods", "SafetyStop", &error, ends.context.reporter.own())
                .await;
        }
        self.report(decision.end).await;
    }

    /// Reports these ends, a few at once. What fails is found again after the next refresh.
    async fn report(&self, gone: Vec<Gone>) {
        let ends = &self.ends;
        let failures = &AtomicUsize::new(0);
        let report = |gone: Gone| async move {
            // A broker that doesn't answer is left alone until the next refresh.
            if failures.load(Ordering::Relaxed) >= CONCURRENCY || !ends.known.begin(&gone.pod.uid) {
                return Ok(());
            }
            let reported = ends.report_confirmed(&gone.pod, gone.reason).await;
            ends.known.finish(&gone.pod.uid, reported.as_ref().ok().copied());
            reported.map(|_| ()).inspect_err(|error| {
                let is_away = matches!(error, BrokerError::Unavailable { .. });
                failures.fetch_add(usize::from(is_away), Ordering::Relaxed);
            })
        };
        let reports = stream::iter(in_turns_by(gone, |gone| gone.pod.namespace.clone())).map(report);
        let mut reports = std::pin::pin!(reports.buffer_unordered(CONCURRENCY));
        let (mut first, mut any_reported) = (None, false);
        while let Some(report) = reports.next().await {
            any_reported |= report.is_ok();
            if let Err(error) = report {
                first.get_or_insert(error);
            }
        }
        if first.is_none() && any_reported {
            ends.context.reporter.own_recovered("PodEndsNotTold");
        }
        if let Some(error) = first.filter(|error| !matches!(error, BrokerError::NotLeader)) {
            let doing = "reporting ended pods to the broker";
            ends.context
                .reporter
                .own_recurring(doing, "PodEndsNotTold", &error)
                .await;
        }
    }
}

/// Finds the pods that have ended, and remembers what it has to between two comparisons.
#[derive(Debug, Default)]
struct Search {
    safety: Safety,
    listed: Option<Listed>,
}

/// The last comparison with a list.
#[derive(Debug)]
struct Listed {
    lead: i64,
    store: String,
    at: Instant,
}

impl Search {
    /// What has ended of the broker's pods, and why not all could be read. What can't be read now is missing in the
    /// next comparison too.
    async fn ended(&mut self, client: &Client, known: &KnownPods, list: &BrokersPods) -> (Decision, Option<PodError>) {
        let now = Instant::now();
        known.set_held(list);
        let missing = match self.missing(client, known, list, now).await {
            Ok(missing) => missing,
            Err(error) => return (Decision::default(), Some(error)),
        };
        let is_open = |pod: &LivePod| !known.is_reported(&pod.uid) && !self.safety.rests(&pod.uid, now);
        let open = missing.into_iter().filter(is_open).collect();
        let confirmed = cluster::confirm_all(client, in_turns(open)).await;
        if confirmed.unread > 0 {
            tracing::warn!(
                pods = confirmed.unread,
                "it can't be confirmed now whether some pods have ended"
            );
        }
        let decision = self.safety.decide(&list.pods, confirmed.gone, &confirmed.running, now);
        (decision, confirmed.error)
    }

    async fn missing(
        &mut self,
        client: &Client,
        known: &KnownPods,
        list: &BrokersPods,
        now: Instant,
    ) -> Result<Vec<LivePod>, PodError> {
        let list_is_fresh = self.listed.as_ref().is_some_and(|last| {
            last.lead == list.lead && last.store == list.store && now.duration_since(last.at) < LIST_EVERY
        });
        if list_is_fresh && let Some(missing) = known.missing(&list.pods) {
            return Ok(missing);
        }
        let missing = cluster::not_listed(client, &list.pods).await?;
        self.listed = Some(Listed {
            lead: list.lead,
            store: list.store.clone(),
            at: now,
        });
        Ok(missing)
    }
}

/// In an order in which no namespace waits for all the pods of another.
fn in_turns(pods: Vec<LivePod>) -> Vec<LivePod> {
    in_turns_by(pods, |pod| pod.namespace.clone())
}

fn in_turns_by<T>(items: Vec<T>, namespace_of: impl Fn(&T) -> String) -> Vec<T> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut ranked: Vec<(usize, T)> = items
        .into_iter()
        .map(|item| {
            let count = counts.entry(namespace_of(&item)).or_default();
            *count += 1;
            (*count, item)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, item)| item).collect()
}

#[cfg(test)]
mod tests {
    use super::super::cluster::fake::{api_server, no_pods, status};
    use super::*;
    use agentwrit_protocol::PodUid;
    use serde_json::json;

    fn pod(namespace: &str, number: usize) -> LivePod {
        LivePod {
            uid: format!("{namespace}{number}").into(),
            namespace: namespace.into(),
            name: format!("pod-{number}"),
        }
    }

    fn brokers(count: usize) -> BrokersPods {
        BrokersPods {
            pods: (0..count).map(|number| pod("a", number)).collect(),
            store: "store".into(),
            lead: 1,
            asked: Instant::now(),
        }
    }

    #[tokio::test]
    async fn an_end_that_cant_be_confirmed_is_found_again() {
        let away = Arc::new(AtomicUsize::new(1));
        let is_away = Arc::clone(&away);
        let (client, _) = api_server(
            move |path| match (path.contains("/pods/"), is_away.load(Ordering::SeqCst)) {
                (false, _) => (200, no_pods()),
                (true, 0) => status(404, "NotFound"),
                (true, _) => status(403, "Forbidden"),
            },
        );
        let (mut search, known) = (Search::default(), KnownPods::default());
        let (decision, error) = search.ended(&client, &known, &brokers(3)).await;
        assert_eq!(decision.end.len(), 0);
        assert!(matches!(error, Some(PodError::Api { .. })), "{error:?}");
        away.store(0, Ordering::SeqCst);
        let (decision, error) = search.ended(&client, &known, &brokers(3)).await;
        assert_eq!(decision.end.len(), 3, "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_for_safety_decides_by_itself_after_a_minute() {
        let (client, asked) = api_server(|path| {
            if path.contains("/pods/") {
                status(404, "NotFound")
            } else {
                (200, no_pods())
            }
        });
        let (mut search, known) = (Search::default(), KnownPods::default());
        let (decision, _) = search.ended(&client, &known, &brokers(11)).await;
        assert_eq!((decision.end.len(), decision.held_back, decision.report), (0, 11, true));
        let reads = asked.load(Ordering::SeqCst);
        for _ in 0..5 {
            tokio::time::advance(Duration::from_secs(10)).await;
            let (decision, _) = search.ended(&client, &known, &brokers(11)).await;
            assert_eq!((decision.end.len(), decision.held_back, decision.report), (0, 0, false));
        }
        assert!(asked.load(Ordering::SeqCst) <= reads + 5, "they rest meanwhile");
        tokio::time::advance(Duration::from_secs(10)).await;
        let (decision, _) = search.ended(&client, &known, &brokers(11)).await;
        assert_eq!(decision.end.len(), 11);
    }

    #[tokio::test]
    async fn running_pods_that_no_list_shows_never_stop_it() {
        let (client, _) = api_server(|path| match path.rsplit_once("/pods/pod-") {
            Some((_, number)) => (
                200,
                json!({"metadata": {"uid": format!("a{number}")}, "status": {"phase": "Running"}}),
            ),
            None => (200, no_pods()),
        });
        let (decision, error) = Search::default()
            .ended(&client, &KnownPods::default(), &brokers(50))
            .await;
        assert_eq!(
            (decision.end.len(), decision.gone, decision.report),
            (0, 0, false),
            "{error:?}"
        );
    }

    #[test]
    fn no_namespace_waits_for_all_pods_of_another() {
        let mut pods: Vec<LivePod> = (1..=3).map(|number| pod("a", number)).collect();
        pods.push(pod("b", 1));
        let order: Vec<PodUid> = in_turns(pods).into_iter().map(|pod| pod.uid).collect();
        assert_eq!(order, ["a1", "b1", "a2", "a3"]);
    }
}
