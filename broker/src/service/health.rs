//! Health and readiness.

use agentwrit_protocol::wire::HealthResponse;
use async_trait::async_trait;
use serde::Serialize;

use crate::broker::Broker;
use crate::store::{Command, Result as StoreResult, StoreError, Tx};

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

/// What `/readyz` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// `ready` or `unready`.
    pub status: &'static str,
    /// The product's version.
    pub version: &'static str,
    /// What is failing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<Failing>,
}

/// A dependency that fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failing {
    /// `store`.
    pub dependency: &'static str,
    /// A word; never a driver's text.
    pub reason: &'static str,
}

/// Whether the broker can do all of its work.
pub fn readiness(broker: &Broker) -> Readiness {
    let failing: Vec<Failing> = broker
        .store
        .failure()
        .map(|reason| Failing {
            dependency: "store",
            reason,
        })
        .into_iter()
        .collect();
    let status = if failing.is_empty() { "ready" } else { "unready" };
    Readiness {
        status,
        version: env!("CARGO_PKG_VERSION"),
        failing,
    }
}

/// Sets the gauge of live agents before a scrape.
///
/// # Errors
/// When the store can't be read.
pub async fn count_agents(broker: &Broker) -> Result<(), StoreError> {
    let live = broker.store.read(CountLive).await?;
    broker.metrics.active_agents.set(live);
    Ok(())
}

struct CountLive;

#[async_trait]
impl Command for CountLive {
    type Outcome = i64;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<i64> {
        tx.count_live_sessions().await
    }
}
