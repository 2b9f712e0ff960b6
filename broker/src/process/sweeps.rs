//! Removing what can never matter again from the store, by one replica at a time.

use agentwrit_protocol::Clock;
use agentwrit_store::{Command, Result as StoreResult, StoreError, SweepTask, Tx};
use async_trait::async_trait;

use crate::broker::Broker;

/// Sweeps everything, unless another replica does.
pub(super) async fn sweep(broker: &Broker) {
    match broker.store.commit(Begin).await {
        Ok(true) => {}
        Ok(false) => {
            for task in SweepTask::ALL {
                broker.metrics.swept(task.as_str(), "skipped_lock");
            }
            return;
        }
        Err(error) => {
            for task in SweepTask::ALL {
                failed(broker, task, &error);
            }
            return;
        }
    }
    let mut rows = 0_u64;
    for task in SweepTask::ALL {
        let begun = broker.clock.monotonic();
        match sweep_all(broker, task).await {
            Ok(gone) => {
                // A session that has given its index back is still there.
                if task != SweepTask::StatusIndexes {
                    rows = rows.saturating_add(gone);
                }
                broker.metrics.swept(task.as_str(), "success");
            }
            Err(error) => failed(broker, task, &error),
        }
        let took = broker.clock.monotonic().saturating_sub(begun);
        broker.metrics.sweep_took(task.as_str(), took);
    }
    if let Err(error) = broker.store.commit(End).await {
        // The lock ends with the connection too.
        tracing::debug!(target: "STORE", component = "Prune", error = %error, "the lock of the sweeps was not given back");
    }
    if rows > 0 {
        tracing::info!(target: "STORE", component = "Prune", count = rows, "pruned expired JTIs");
    }
}

/// A few rows at a time, so that other commits wait for few.
async fn sweep_all(broker: &Broker, task: SweepTask) -> StoreResult<u64> {
    let mut rows = 0_u64;
    loop {
        match broker.store.commit(Sweep(task)).await? {
            0 => return Ok(rows),
            more => rows = rows.saturating_add(more),
        }
    }
}

fn failed(broker: &Broker, task: SweepTask, error: &StoreError) {
    broker.metrics.swept(task.as_str(), "failure");
    tracing::warn!(target: "STORE", component = "Prune", task = task.as_str(), error = %error, "not everything was pruned");
}

struct Begin;

#[async_trait]
impl Command for Begin {
    type Outcome = bool;
    const MAKES_ROOM: bool = true;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<bool> {
        tx.begin_sweeps().await
    }
}

struct End;

#[async_trait]
impl Command for End {
    type Outcome = ();
    const MAKES_ROOM: bool = true;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<()> {
        tx.end_sweeps().await
    }
}

struct Sweep(SweepTask);

#[async_trait]
impl Command for Sweep {
    type Outcome = u64;
    const MAKES_ROOM: bool = true;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<u64> {
        tx.sweep(self.0).await
    }
}
