//! When a pod ends, its authority ends: watch, confirm, report to the broker (`docs/adr/0008-pod-end.md`).
//!
//! The broker's list of pods decides, UID by UID. The watch and the label only make it fast: what they miss, the
//! next comparison finds, at most one refresh of the broker's list later.

mod cluster;
mod comparison;
mod head;
mod known;
mod reporter;
mod safety;
mod silent;
mod waiting;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::k8s::LivePod;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use comparison::Comparer;
use known::KnownPods;
use reporter::PodEndReporter;
use silent::SilentPodReporter;
pub(crate) use silent::SilentPods;

use crate::context::Context;
use crate::report::{Categorised, Category};

/// Pods that run, or will.
const NOT_FINISHED: &str = "status.phase!=Succeeded,status.phase!=Failed";
/// Pods in one page of a list. Few, because a page is read as a whole, and each pod's author decides how long it is.
const PAGE: u32 = 50;
/// Concurrent confirmations and reports, each for suspected ends and for the comparison.
const CONCURRENCY: usize = 8;
/// How many suspected ends may wait. When the queue is full, one is dropped: the comparison finds that end.
const MAX_SUSPECTED_ENDS: usize = 1024;
/// How long one call to the API server may take.
const API_TIMEOUT: Duration = Duration::from_secs(10);

/// Why pods can't be compared, or are gone in a way that needs a second look.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PodError {
    /// The API server refused or didn't answer.
    #[error("{doing} failed")]
    Api {
        /// What we were doing.
        doing: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server took too long.
    #[error("{doing} took more than {} s", API_TIMEOUT.as_secs())]
    Slow {
        /// What we were doing.
        doing: &'static str,
    },
    /// More than half are gone at once.
    #[error(
        "{gone} of the broker's {all} pods are gone at once; the end of {held_back} waits for a second comparison in a \
         minute: check that the controller sees the cluster it should"
    )]
    MostAreGone {
        /// How many are gone.
        gone: usize,
        /// How many there are.
        all: usize,
        /// How many of them wait for a second comparison from now on.
        held_back: usize,
    },
}

impl Categorised for PodError {
    fn category(&self) -> Category {
        match self {
            Self::Api { .. } | Self::Slow { .. } => Category::Kubernetes,
            Self::MostAreGone { .. } => Category::Safety,
        }
    }
}

/// A pod that the API server no longer has, or whose phase is final; confirmed by a quorum read.
#[derive(Debug, Clone)]
struct Gone {
    pod: LivePod,
    reason: &'static str,
}

/// The pods that the broker held when it was asked.
#[derive(Debug)]
pub(crate) struct BrokersPods {
    pub(crate) pods: Vec<LivePod>,
    /// The epoch of its store.
    pub(crate) store: String,
    /// Our lease epoch.
    pub(crate) lead: i64,
    /// Just before the request.
    pub(crate) asked: Instant,
}

/// Where pods go that may have ended.
pub(crate) type SuspectedEnds = mpsc::Sender<LivePod>;

/// Starts the watch of pods, and what reports those that ended and those that never reached the broker.
pub(crate) fn spawn(context: &Arc<Context>, tasks: &mut JoinSet<()>) {
    let (suspected_ends, suspected) = mpsc::channel(MAX_SUSPECTED_ENDS);
    let known = Arc::new(KnownPods::default());
    tasks.spawn(watch::watch(Arc::clone(context), Arc::clone(&known), suspected_ends));
    let silent = SilentPodReporter {
        client: context.client.clone(),
        leadership: context.leadership.clone(),
        silent: Arc::clone(&context.silent),
        reporter: context.reporter.clone(),
        clock: Arc::clone(&context.clock),
        broker_url: context.config.broker_url.clone(),
    };
    tasks.spawn(silent.run(context.brokers_pods.subscribe()));
    let ends = Arc::new(PodEndReporter::new(Arc::clone(context), known));
    tasks.spawn(Arc::clone(&ends).run(suspected));
    tasks.spawn(Comparer::new(ends).run(context.brokers_pods.subscribe()));
}
