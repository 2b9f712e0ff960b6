//! The benchmark, from the first start to the table.

mod flat;
mod replicas;
mod sample;

use std::path::PathBuf;
use std::time::Duration;

use agentwrit_testkit::load::failure::{Failure, Result};
use agentwrit_testkit::load::http::request;
use agentwrit_testkit::load::process::{Broker, Settings, cores, pin};

use crate::baseline::StandIn;
use crate::goals::{Operation, TARGETS, Target};
use crate::prepare::World;
use crate::report::{Report, Row, Single};

/// Starts whose median is told.
const STARTS: usize = 5;
const SETTLE: Duration = Duration::from_secs(1);
/// Life of the tokens whose memory must come back, seconds.
const SHORT_TTL: u32 = 15;
/// Until they have expired and the broker's next pruning, each minute, has passed.
const EXPIRY: Duration = Duration::from_secs(80);
const MANY: usize = 20_000;
const TRAIL: usize = 50_000;
const LONG_TRAIL: usize = 100_000;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// The broker's program.
    pub program: PathBuf,
    /// A new folder on the disk that counts.
    pub folder: PathBuf,
    /// Length of a window.
    pub length: Duration,
    /// Numbers of clients.
    pub clients: Vec<usize>,
    /// Operations; empty for all.
    pub only: Vec<Operation>,
    /// Whether starts, memory and access lines are measured too.
    pub surroundings: bool,
    /// Numbers of replicas on PostgreSQL that are compared with SQLite; with none, SQLite alone is measured.
    pub replicas: Vec<usize>,
    /// Only what an operation costs on PostgreSQL with a long trail, and with many revocations.
    pub flat: bool,
    /// How many events, revocations and ended sessions are many.
    pub many: usize,
}

/// A benchmark on its way.
struct Bench {
    options: Options,
    cores: Option<(usize, usize)>,
    stand_in: StandIn,
    report: Report,
    brokers: usize,
}

/// Measures everything; `progress` hears what is being done.
///
/// # Errors
/// When an operation fails: a benchmark of answers that are wrong says nothing.
pub async fn run(options: Options, progress: &dyn Fn(&str)) -> Result<Report> {
    std::fs::create_dir_all(&options.folder).map_err(Failure::system("make the benchmark's folder"))?;
    let pair = match cores().as_slice() {
        [first, second, ..] => Some((*first, *second)),
        _ => None,
    };
    let stand_in = StandIn::start(&options.folder, pair).await?;
    if let Some((_, ours)) = pair {
        pin(ours)?;
    } else {
        progress("one core only: broker and clients share it, and the figures say little");
    }
    let mut bench = Bench {
        cores: pair,
        stand_in,
        report: Report {
            cores: pair,
            ..Report::default()
        },
        brokers: 0,
        options,
    };
    if bench.options.flat {
        bench.flat(progress).await?;
    } else if bench.options.replicas.is_empty() {
        bench.everything(progress).await?;
    } else {
        bench.compare(progress).await?;
    }
    Ok(bench.report)
}

impl Bench {
    /// A broker with a new store.
    async fn fresh(&mut self, environment: &[(&'static str, &str)]) -> Result<(Broker, Settings)> {
        self.brokers += 1;
        let settings = Settings {
            program: self.options.program.clone(),
            folder: self.options.folder.join(format!("broker-{}", self.brokers)),
            cores: self.cores,
            environment: environment
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
            arguments: vec![],
        };
        Ok((Broker::start(&settings).await?, settings))
    }

    /// All that this process may use.
    fn all_cores(&self) -> Vec<usize> {
        self.cores.map_or_else(cores, |(theirs, ours)| vec![theirs, ours])
    }

    /// Where the clients are.
    fn own_core(&self) -> Option<usize> {
        self.cores.map(|(_, ours)| ours)
    }

    fn wanted(&self, of: &[Operation]) -> Vec<Target> {
        let only = &self.options.only;
        TARGETS
            .into_iter()
            .filter(|target| of.contains(&target.operation) && (only.is_empty() || only.contains(&target.operation)))
            .collect()
    }

    async fn everything(&mut self, progress: &dyn Fn(&str)) -> Result<()> {
        if self.options.surroundings {
            progress("starts with an empty store");
            self.empty_starts().await?;
        }
        let tokens = self.wanted(&[
            Operation::Register,
            Operation::LaunchRegister,
            Operation::Renew,
            Operation::Delegate,
            Operation::Revoke,
            Operation::ValidateNew,
            Operation::ValidateRepeated,
        ]);
        if !tokens.is_empty() {
            let (broker, settings) = self.fresh(&[]).await?;
            let world = World::new(broker, 3600).await?;
            self.operations(&world, &settings, &tokens, "quiet", progress).await?;
            world.stop().await?;
        }
        if self.options.surroundings {
            self.access_lines(progress).await?;
        }
        self.history(progress).await
    }

    async fn operations(
        &mut self,
        world: &World,
        settings: &Settings,
        targets: &[Target],
        log: &'static str,
        progress: &dyn Fn(&str),
    ) -> Result<()> {
        for target in targets {
            if target.operation == Operation::Delegate && !serves_delegation(world).await? {
                let text = "delegate: this broker has no POST /v1/delegate";
                progress(text);
                self.report.skipped.push(text.into());
                continue;
            }
            for clients in self.options.clients.clone() {
                progress(&format!("{}, {clients} clients", target.operation.label()));
                let sample_body = format!(r#"{{"token":"{}"}}"#, world.admin);
                let beside = self.stand_in.beside(clients, &sample_body, SETTLE).await?;
                let sample = self.operation(world, settings, target.operation, clients).await?;
                self.report.rows.push(Row::new(*target, log, sample, beside));
            }
        }
        Ok(())
    }

    async fn empty_starts(&mut self) -> Result<()> {
        let mut starts = Vec::new();
        for round in 0..STARTS {
            let (broker, _) = self.fresh(&[]).await?;
            starts.push(milliseconds(&broker));
            if round == 0 {
                tokio::time::sleep(SETTLE).await;
                let idle = Single::idle("resident memory, idle", broker.resident_kib()?);
                self.report.singles.push(idle);
            }
            broker.stop().await?;
        }
        let start = Single::start("start to first 200 of /v1/health, new store", median(starts));
        self.report.singles.push(start);
        Ok(())
    }

    /// What the access log costs: the same at the default level.
    async fn access_lines(&mut self, progress: &dyn Fn(&str)) -> Result<()> {
        let targets = self.wanted(&[Operation::Register, Operation::ValidateRepeated]);
        let (broker, settings) = self.fresh(&[("AA_LOG_LEVEL", "standard")]).await?;
        let world = World::new(broker, 3600).await?;
        let all = std::mem::take(&mut self.options.clients);
        self.options.clients = all.iter().copied().max().into_iter().collect();
        let outcome = self.operations(&world, &settings, &targets, "default", progress).await;
        self.options.clients = all;
        outcome?;
        world.stop().await
    }

    /// What a history costs: memory after many registrations and after their expiry, audit queries, starts.
    async fn history(&mut self, progress: &dyn Fn(&str)) -> Result<()> {
        let audit = self.wanted(&[Operation::Audit, Operation::AuditByType, Operation::AuditByAgent]);
        if audit.is_empty() && !self.options.surroundings {
            return Ok(());
        }
        let (broker, settings) = self.fresh(&[]).await?;
        let world = World::new(broker, SHORT_TTL).await?;
        progress("20,000 registrations");
        let sample = world.register_many(MANY).await?;
        if self.options.surroundings {
            let resident = world.broker.resident_kib()?;
            self.report.singles.extend([
                Single::resident("resident memory after 20,000 registrations", resident),
                Single::new("CPU of a registration", sample.server_cpu_us / 1000.0, "ms"),
                Single::new("disk of a registration", sample.disk_kib, "KiB"),
            ]);
            progress("waiting until these have expired and are pruned");
            tokio::time::sleep(EXPIRY).await;
            let resident = Single::resident("resident memory after their expiry", world.broker.resident_kib()?);
            self.report.singles.push(resident);
        }
        grow(&world, TRAIL).await?;
        self.operations(&world, &settings, &audit, "quiet", progress).await?;
        if self.options.surroundings {
            progress("a trail of 100,000 events");
            grow(&world, LONG_TRAIL).await?;
            self.long_starts(world.broker, &settings, progress).await?;
        }
        Ok(())
    }

    async fn long_starts(&mut self, broker: Broker, settings: &Settings, progress: &dyn Fn(&str)) -> Result<()> {
        progress("starts with 100,000 events");
        let (mut clean, mut killed) = (Vec::new(), Vec::new());
        let mut broker = Some(broker);
        for _ in 0..STARTS {
            if let Some(running) = broker.take() {
                running.stop().await?;
            }
            let started = Broker::start(settings).await?;
            clean.push(milliseconds(&started));
            if clean.len() == 1 {
                tokio::time::sleep(SETTLE).await;
                let resident = started.resident_kib()?;
                let idle = Single::idle("resident memory, idle with 100,000 events", resident);
                self.report.singles.push(idle);
            }
            // Some events, so that there is a WAL to recover.
            let mut world = World::new(started, SHORT_TTL).await?;
            world.register_many(100).await?;
            world.broker.kill()?;
            let started = Broker::start(settings).await?;
            killed.push(milliseconds(&started));
            broker = Some(started);
        }
        self.report.singles.extend([
            Single::start("start with 100,000 events", median(clean)),
            Single::start("start with 100,000 events, after kill -9", median(killed)),
        ]);
        Ok(())
    }
}

fn milliseconds(broker: &Broker) -> f64 {
    broker.started_in.as_secs_f64() * 1000.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Whether the broker has the endpoint: an unknown path is 404, a known one without a token 401.
async fn serves_delegation(world: &World) -> Result<bool> {
    let mut connection = world.connect().await?;
    let answer = connection.send(&request("POST", "/v1/delegate", "", "{}")).await?;
    Ok(answer.status != 404)
}

/// Registers agents until the trail has this many events.
async fn grow(world: &World, events: usize) -> Result<()> {
    let there = usize::try_from(world.broker.health().await?.audit_events_count).unwrap_or_default();
    let missing = events.saturating_sub(there).div_ceil(2);
    if missing > 0 {
        world.register_many(missing).await?;
    }
    Ok(())
}
