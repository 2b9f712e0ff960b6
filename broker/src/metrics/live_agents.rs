//! The count of live agents.

use std::time::Duration;

use agentwrit_protocol::Clock;
use agentwrit_store::{Result as StoreResult, Store, StoreError};
use prometheus::IntGauge;
use tokio::sync::Mutex;

/// How long a count of the live agents serves further scrapes.
const COUNT_SERVES: Duration = Duration::from_secs(1);
/// A count that fails is logged at most once in this time.
const FAILURE_LOGGED_EVERY: Duration = Duration::from_secs(10);

/// Counts the live agents for scrapes: counting reads every live session, on connections that logins need too.
#[derive(Debug, Default)]
pub(crate) struct LiveAgents(Mutex<Counted>);

/// Monotonic readings.
#[derive(Debug, Default)]
struct Counted {
    last: Option<Duration>,
    last_logged: Option<Duration>,
}

impl LiveAgents {
    /// Brings the gauge up to date before a scrape. The other metrics are the way to notice that it can't be.
    pub(crate) async fn update(&self, clock: &dyn Clock, gauge: &IntGauge, store: &Store) {
        let count = store.query(|tx| tx.count_live_sessions());
        if let Some(error) = self.refresh(clock, gauge, count).await {
            tracing::warn!(target: "OPS", component = "Metrics", error = %error, "active agents can't be counted: the last number stays");
        }
    }

    /// Sets the gauge unless it was set, or could not be, less than a second ago. Scrapes at the same time wait for one
    /// count. A count that fails leaves the gauge as it is; its error is returned when it is to be logged.
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
            Err(_) if is_recent(counted.last_logged, FAILURE_LOGGED_EVERY) => None,
            Err(error) => {
                counted.last_logged = counted.last;
                Some(error)
            }
        }
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
    async fn a_failed_count_keeps_the_last_and_is_logged_each_10_s() {
        let world = World::new();
        world.scrape(Ok(7)).await;
        let mut logged = 0;
        for _ in 0..20 {
            world.clock.advance(1);
            let failed = join_all((0..8).map(|_| world.scrape(Err(StoreError::QueueFull)))).await;
            logged += failed.iter().flatten().count();
        }
        // One count a second, failed or not.
        assert_eq!((world.seen(), logged), ((21, 7), 2));
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
