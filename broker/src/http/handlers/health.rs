//! Health and readiness.

use std::time::Duration;

use agentwrit_protocol::Clock;
use agentwrit_protocol::wall_clock::{disagreement, is_wrong};
use agentwrit_protocol::wire::HealthResponse;
use agentwrit_store::{DiskSpace, Result as StoreResult, StoreError};
use prometheus::IntGauge;
use serde::Serialize;
use tokio::sync::Mutex;

use crate::broker::Broker;

/// Version of the wire contract; the product's own is in `--version`, `/readyz` and a metric.
pub const WIRE_VERSION: &str = "2.0.0";

/// What `/v1/health` says, always with 200.
pub fn health(broker: &Broker) -> HealthResponse {
    HealthResponse {
        status: "ok".to_owned(),
        version: WIRE_VERSION.to_owned(),
        uptime: broker.uptime_seconds(),
        db_connected: broker.store.persistent() && broker.store.connected(),
        audit_events_count: broker.store.event_count(),
    }
}

/// Whether the process can still do its work some day without a restart.
pub fn alive(broker: &Broker) -> bool {
    broker.store.alive()
}

/// What `/readyz` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// `ready`, `degraded` (it answers, but some calls are refused) or `unready`.
    pub status: &'static str,
    /// The product's version.
    pub version: &'static str,
    /// What is failing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<Failing>,
    /// What will fail soon.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Failing>,
    /// The disk of the store; absent for a store in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
}

impl Readiness {
    /// Whether it should get requests: a broker whose disk is full still validates and revokes.
    pub fn serves(&self) -> bool {
        self.status != UNREADY
    }
}

/// Room on the disk of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// Bytes that are left.
    pub free_bytes: u64,
    /// Bytes beside them that are kept for what takes authority away.
    pub reserve_bytes: u64,
}

const UNREADY: &str = "unready";

/// A dependency that fails, or will.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failing {
    /// `store` or `clock`.
    pub dependency: &'static str,
    /// A word; never a driver's text.
    pub reason: &'static str,
    /// Both times when it is the clock, the bytes that are left when it is the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What the disk lets the broker do.
fn of_disk(room: DiskSpace) -> Failing {
    let left = format!("{} bytes are free beside a reserve of {}", room.free, room.reserve);
    let (reason, detail) = if room.full {
        (
            "disk_full",
            format!("{left}: only what takes authority away is written"),
        )
    } else {
        (
            "disk_nearly_full",
            format!("{left}: denials of strangers are only counted"),
        )
    };
    Failing {
        dependency: "store",
        reason,
        detail: Some(detail),
    }
}

/// Whether the broker can do all of its work.
pub fn readiness(broker: &Broker) -> Readiness {
    let store = broker.store.failure().map(|reason| Failing {
        dependency: "store",
        reason,
        detail: None,
    });
    let times = broker.judging.times();
    let min_iat = broker.view.min_iat();
    let clock = is_wrong(times, min_iat).then(|| Failing {
        dependency: "clock",
        reason: "clock",
        detail: Some(disagreement(times, min_iat)),
    });
    let mut failing: Vec<Failing> = store.into_iter().chain(clock).collect();
    let room = broker.store.disk_space();
    let disk = |full: bool| room.filter(|room| room.scarce && room.full == full).map(of_disk);
    let trail = broker.store.refuses().then(|| Failing {
        dependency: "store",
        reason: StoreError::AuditFull.kind(),
        detail: Some(StoreError::AuditFull.to_string()),
    });
    let refusing: Vec<Failing> = disk(true).into_iter().chain(trail).collect();
    let status = match (failing.is_empty(), refusing.is_empty()) {
        (true, true) => "ready",
        (true, false) => "degraded",
        (false, _) => UNREADY,
    };
    failing.extend(refusing);
    Readiness {
        status,
        version: env!("CARGO_PKG_VERSION"),
        failing,
        warnings: disk(false).into_iter().collect(),
        disk: room.map(|room| Disk {
            free_bytes: room.free,
            reserve_bytes: room.reserve,
        }),
    }
}

/// How long a count of the live agents serves further scrapes.
const COUNT_SERVES: Duration = Duration::from_secs(1);
/// A count that fails is told at most once in this time.
const FAILURE_TOLD_EVERY: Duration = Duration::from_secs(10);

/// Counts the live agents for scrapes: counting reads every live session, on connections that logins need too.
#[derive(Debug, Default)]
pub struct LiveAgents(Mutex<Counted>);

/// Monotonic readings.
#[derive(Debug, Default)]
struct Counted {
    last: Option<Duration>,
    told: Option<Duration>,
}

impl LiveAgents {
    /// Sets the gauge unless it was set, or could not be, less than a second ago. Scrapes at the same time wait for one
    /// count. A count that fails leaves the gauge as it is; its error is given when it is to be told.
    async fn refresh(
        &self,
        clock: &dyn Clock,
        gauge: &IntGauge,
        count: impl Future<Output = StoreResult<i64>>,
    ) -> Option<StoreError> {
        let is_recent = |since: Option<Duration>, within: Duration| {
            since.is_some_and(|since| clock.monotonic().saturating_sub(since) < within)
        };
        let mut counted = self.0.lock().await;
        if is_recent(counted.last, COUNT_SERVES) {
            return None;
        }
        let result = count.await;
        counted.last = Some(clock.monotonic());
        match result {
            Ok(live) => {
                gauge.set(live);
                None
            }
            Err(_) if is_recent(counted.told, FAILURE_TOLD_EVERY) => None,
            Err(error) => {
                counted.told = counted.last;
                Some(error)
            }
        }
    }
}

/// Brings the gauge of live agents up to date before a scrape. The other metrics are the way to notice that it can't be.
pub async fn count_agents(broker: &Broker) {
    let gauge = &broker.metrics.active_agents;
    let count = broker.store.query(|tx| tx.count_live_sessions());
    if let Some(error) = broker.live_agents.refresh(broker.clock.as_ref(), gauge, count).await {
        tracing::warn!(target: "OPS", component = "Metrics", error = %error, "active agents can't be counted: the last number stays");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use agentwrit_protocol::clock::ManualClock;
    use futures_util::future::join_all;

    use super::*;

    /// Something to count, how often it was counted, and whether counting fails.
    struct World {
        clock: ManualClock,
        gauge: IntGauge,
        agents: LiveAgents,
        counts: AtomicI64,
    }

    impl World {
        fn new() -> Self {
            Self {
                clock: ManualClock::at(1_800_000_000),
                gauge: IntGauge::new("agents", "live").unwrap(),
                agents: LiveAgents::default(),
                counts: AtomicI64::new(0),
            }
        }

        /// A scrape whose count, if it is made, lets all others come first.
        async fn scrape(&self, found: StoreResult<i64>) -> Option<StoreError> {
            let count = async {
                self.counts.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                found
            };
            self.agents.refresh(&self.clock, &self.gauge, count).await
        }

        fn seen(&self) -> (i64, i64) {
            (self.counts.load(Ordering::SeqCst), self.gauge.get())
        }
    }

    #[tokio::test]
    async fn scrapes_within_a_second_share_one_count() {
        let world = World::new();
        join_all((0..8).map(|n| world.scrape(Ok(7 + n)))).await;
        assert_eq!(world.seen(), (1, 7));
        world.clock.advance_millis(999);
        world.scrape(Ok(8)).await;
        assert_eq!(world.seen(), (1, 7));
        world.clock.advance_millis(1);
        join_all((0..8).map(|_| world.scrape(Ok(9)))).await;
        assert_eq!(world.seen(), (2, 9));
    }

    #[tokio::test]
    async fn a_count_that_fails_leaves_the_last_and_is_told_each_ten_seconds() {
        let world = World::new();
        world.scrape(Ok(7)).await;
        let mut told = 0;
        for _ in 0..20 {
            world.clock.advance(1);
            let failed = join_all((0..8).map(|_| world.scrape(Err(StoreError::QueueFull)))).await;
            told += failed.iter().flatten().count();
        }
        // One count a second, failed or not.
        assert_eq!((world.seen(), told), ((21, 7), 2));
        world.clock.advance(1);
        assert!(world.scrape(Ok(3)).await.is_none());
        assert_eq!(world.seen(), (22, 3));
    }

    #[tokio::test]
    async fn a_scrape_that_hangs_up_leaves_the_count_to_the_next() {
        let world = World::new();
        let mut hung = Box::pin(world.scrape(Ok(7)));
        assert!(futures_util::poll!(hung.as_mut()).is_pending());
        drop(hung);
        world.scrape(Ok(8)).await;
        assert_eq!(world.seen(), (2, 8));
    }
}
