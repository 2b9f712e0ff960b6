//! One window: clients that do one operation after the other, and what it took.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agentwrit_testkit::load::failure::{Failure, Result};
use agentwrit_testkit::load::moment;
use agentwrit_testkit::load::process::{Usage, usage};
use serde::Serialize;

use crate::database::Counters;

/// Whether there was something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// One operation done.
    Done,
    /// What was prepared is used up.
    Exhausted,
}

/// One client.
pub trait Load: Send + 'static {
    /// Does one operation.
    fn once(&mut self) -> impl Future<Output = Result<Step>> + Send;
}

/// What a window gave.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Clients side by side.
    pub clients: usize,
    /// Operations done.
    pub operations: u64,
    /// Operations a second.
    pub per_second: f64,
    /// Half of the operations took no longer, microseconds.
    pub p50_us: u32,
    /// 99 % of the operations took no longer, microseconds.
    pub p99_us: u32,
    /// CPU time of the server for one operation, microseconds.
    pub server_cpu_us: f64,
    /// Share of one core that the server used.
    pub server_core: f64,
    /// Share of one core that the clients' work took: near 1 they were what limited.
    pub client_core: f64,
    /// Written to the disk for one operation, KiB.
    pub disk_kib: f64,
    /// Operations that shared one commit; 0 when nothing was committed.
    pub per_commit: f64,
    /// What its database took for it, where it has one.
    pub database: Option<DatabaseUse>,
}

/// What a database took for one operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct DatabaseUse {
    /// CPU time of all its processes, microseconds.
    pub cpu_us: f64,
    /// Share of one core that they used.
    pub core: f64,
    /// Write-ahead log, KiB.
    pub wal_kib: f64,
    /// Pages that its statements looked at; 0 when they are not counted.
    pub pages: f64,
}

/// A server whose use is measured beside the clients'.
pub trait Server {
    /// What it has used so far.
    ///
    /// # Errors
    /// When it is gone.
    fn usage(&self) -> Result<Usage>;

    /// Whether it has a core of its own.
    fn apart(&self) -> bool;

    /// Transactions that it has committed so far.
    fn commits(&self) -> impl Future<Output = Result<u64>>;

    /// What its database has used so far; `None` when it has none.
    ///
    /// # Errors
    /// When the database doesn't say.
    fn database(&self) -> Result<Option<Counters>>;
}

/// A gap between two turns of the spinner that is no longer holds no operation's work.
const IDLE_GAP: Duration = Duration::from_micros(2);

/// What the clients' thread does while there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// Never sleeps. A thread that sleeps must be woken by the server's every answer, which costs it microseconds (an
    /// interrupt to the other core) that it would not pay to clients on other machines.
    Spins,
    /// Sleeps: for operations that wait for the disk, whose kernel threads need a core too.
    Sleeps,
}

/// Takes every turn that the clients don't need, and returns the time in which they had nothing to do.
async fn spin(until: Arc<AtomicBool>) -> Duration {
    let mut idle = Duration::ZERO;
    let mut before = moment::now();
    while !until.load(Ordering::Relaxed) {
        tokio::task::yield_now().await;
        let after = moment::now();
        let gap = after.duration_since(before);
        if gap <= IDLE_GAP {
            idle += gap;
        }
        before = after;
    }
    idle
}

/// Runs the loads side by side for this long, or until all are exhausted.
///
/// # Errors
/// The first failure of any of them.
pub async fn window<L: Load>(loads: Vec<L>, length: Duration, server: &impl Server, idle: Idle) -> Result<Sample> {
    let clients = loads.len();
    let commits = server.commits().await?;
    let database = server.database()?;
    let (theirs, ours) = (server.usage()?, usage("self")?);
    let over = Arc::new(AtomicBool::new(idle == Idle::Sleeps || !server.apart()));
    let spinner = tokio::spawn(spin(Arc::clone(&over)));
    let begun = moment::now();
    let tasks: Vec<_> = loads
        .into_iter()
        .map(|load| tokio::spawn(drive(load, begun, length)))
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        let of_one = task
            .await
            .map_err(|error| Failure::Broker(format!("a client: {error}")))??;
        latencies.extend(of_one);
    }
    let elapsed = begun.elapsed();
    over.store(true, Ordering::Relaxed);
    let idle = spinner
        .await
        .map_err(|error| Failure::Broker(format!("the spinner: {error}")))?;
    let (their_end, our_end) = (server.usage()?, usage("self")?);
    let database_end = server.database()?;
    let committed = server.commits().await?.saturating_sub(commits);
    latencies.sort_unstable();
    let operations = u64::try_from(latencies.len()).unwrap_or(u64::MAX);
    if operations == 0 {
        return Err(Failure::Broker("a window without a single operation".into()));
    }
    let count = moment::float(operations);
    let cpu = their_end.cpu.saturating_sub(theirs.cpu).as_secs_f64();
    let written = their_end.written_bytes.saturating_sub(theirs.written_bytes);
    let seconds = elapsed.as_secs_f64();
    Ok(Sample {
        clients,
        operations,
        per_second: moment::rate(operations, elapsed),
        p50_us: percentile(&latencies, 50),
        p99_us: percentile(&latencies, 99),
        server_cpu_us: cpu * 1e6 / count,
        server_core: cpu / seconds,
        client_core: our_end.cpu.saturating_sub(ours.cpu + idle).as_secs_f64() / seconds,
        disk_kib: moment::float(written / 1024) / count,
        per_commit: if committed == 0 {
            0.0
        } else {
            count / moment::float(committed)
        },
        database: database.zip(database_end).map(|(begun, ended)| {
            let cpu = ended.cpu.saturating_sub(begun.cpu).as_secs_f64();
            DatabaseUse {
                cpu_us: cpu * 1e6 / count,
                core: cpu / seconds,
                wal_kib: moment::float(ended.wal_bytes.saturating_sub(begun.wal_bytes) / 1024) / count,
                pages: moment::float(ended.pages.saturating_sub(begun.pages)) / count,
            }
        }),
    })
}

/// One client until the window ends; the microseconds of each operation.
async fn drive<L: Load>(mut load: L, begun: Instant, length: Duration) -> Result<Vec<u32>> {
    let mut latencies = Vec::with_capacity(16 * 1024);
    let mut before = moment::now();
    while begun.elapsed() < length {
        if load.once().await? == Step::Exhausted {
            break;
        }
        let after = moment::now();
        latencies.push(u32::try_from(after.duration_since(before).as_micros()).unwrap_or(u32::MAX));
        before = after;
    }
    Ok(latencies)
}

/// The value at this percentile of sorted values; 0 when there are none.
pub fn percentile(sorted: &[u32], percent: usize) -> u32 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * percent / 100).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_sorted_values() {
        let values: Vec<u32> = (1..=101).collect();
        assert_eq!((percentile(&values, 50), percentile(&values, 99)), (51, 100));
        assert_eq!((percentile(&[7], 99), percentile(&[], 50)), (7, 0));
    }
}
