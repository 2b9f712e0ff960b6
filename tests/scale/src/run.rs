//! The measurement from beginning to end.

mod changes;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use agentwrit_testkit::load::moment;
use kube::Client;

use crate::cluster;
use crate::counts::{self, Counts};
use crate::observer::Observer;
use crate::plain;
use crate::pods;
use crate::programs::{Brokers, Controller};
use crate::report::Report;
use crate::{Options, Result, say};

/// Between two looks at counters that have to come to rest.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Longest wait for the broker to hold what it should again.
const PATIENCE: Duration = Duration::from_mins(5);
/// Resident memory that the controller may have, KiB.
const MOST_MEMORY: u64 = 64 * 1024;

/// What all steps share.
pub(crate) struct Run {
    options: Options,
    client: Client,
    broker: Brokers,
    controller: Controller,
    observer: Observer,
    report: Report,
}

fn per_object(count: u64, objects: usize) -> f64 {
    moment::float(count) / moment::float(u64::try_from(objects).unwrap_or_default())
}

/// Measures all of it.
pub(crate) async fn run(options: Options) -> Result<Report> {
    let client = Client::try_default().await?;
    say(&format!(
        "{} AgentApps and {} LaunchTokens in {} namespaces",
        options.apps, options.tokens, options.namespaces
    ));
    cluster::install(&client).await?;
    cluster::create_objects(&client, &options).await?;
    let mut report = Report::default();
    say("a plain client writes its pairs");
    let pairs = plain::pairs(&client, &options).await?;
    let plain_rate = moment::rate(u64::try_from(pairs.count)?, pairs.elapsed);
    report.figure(
        "a plain client",
        format!(
            "{} pairs (metadata patch, status patch) in {:.1} s: {plain_rate:.0} a second, {} at once",
            pairs.count,
            pairs.elapsed.as_secs_f64(),
            options.concurrency
        ),
    );
    let token = cluster::controller_token(&client).await?;
    let broker = Brokers::start(&options, token.clone()).await?;
    let observer = Observer::start(&client);
    let before = Counts::of_api_server(&client).await?;
    say("controller and broker start");
    let begun = moment::now();
    let controller = Controller::start(&options, broker.address(), &token)?;
    let mut run = Run {
        options,
        client,
        broker,
        controller,
        observer,
        report,
    };
    run.cold_start(begun, &before, plain_rate).await?;
    run.at_rest().await?;
    run.changes().await?;
    run.change_of_an_app().await?;
    run.drift().await?;
    run.lost_store().await?;
    run.pods().await?;
    run.memory()?;
    Ok(run.report)
}

impl Run {
    fn objects(&self) -> usize {
        self.options.apps + self.options.tokens
    }

    /// The API server's counters once they have come to rest.
    async fn settled(&self) -> Result<Counts> {
        let mut last = Counts::of_api_server(&self.client).await?;
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            let now = Counts::of_api_server(&self.client).await?;
            if now.since(&last).writes() == Counts::default() {
                return Ok(now);
            }
            last = now;
        }
    }

    async fn cold_start(&mut self, begun: Instant, before: &Counts, plain_rate: f64) -> Result<()> {
        let objects = self.objects();
        let elapsed = self.observer.are_ready(objects).await?.saturating_duration_since(begun);
        let rate = moment::rate(u64::try_from(objects)?, elapsed);
        let share = rate / plain_rate * 100.0;
        self.report.goal(
            "cold start",
            format!(
                "{objects} objects Ready after {:.1} s: {rate:.0} a second, {share:.0} % of the plain client's rate",
                elapsed.as_secs_f64()
            ),
            "80 % of it",
            share >= 80.0,
        );
        self.report.goal(
            "seconds of it",
            format!("{:.1}", elapsed.as_secs_f64()),
            "60",
            elapsed <= Duration::from_mins(1),
        );
        let (now, most) = self.controller.resident_kib()?;
        self.report.goal(
            "controller's memory, at its highest",
            format!(
                "{:.1} MiB, then {:.1}; {:.1} s of CPU",
                mib(most),
                mib(now),
                self.controller.cpu()?
            ),
            "64 MiB",
            most <= MOST_MEMORY,
        );
        self.report.figure(
            "broker's memory",
            format!("{:.1} MiB", mib(self.broker.resident_kib()?)),
        );
        let caused = self.settled().await?.since(before);
        let ours = caused.of_ours().writes();
        self.report.figure("API requests of the cold start", caused.text());
        self.report.count(
            "writes of custom resources for each of them",
            format!("{:.3} ({})", per_object(ours.total(), objects), ours.text()),
            "at most 2",
            ours.total() <= u64::try_from(objects)? * 2,
        );
        let events = caused.0.get("POST events.k8s.io/events").copied().unwrap_or_default();
        self.report.count(
            "Events about them",
            events.to_string(),
            "none but of the start",
            events < 10,
        );
        let calls = counts::of_broker(self.broker.ops).await?;
        self.report.figure("requests to the broker", text(&calls));
        Ok(())
    }

    /// Waits for so many comparisons more.
    async fn comparisons(&self, more: u64) -> Result<()> {
        let done = async || -> Result<u64> {
            let calls = counts::of_broker(self.broker.ops).await?;
            Ok(calls.get("k8s_mark").copied().unwrap_or_default())
        };
        let (begun, first) = (moment::now(), done().await?);
        while done().await? < first + more {
            if begun.elapsed() > PATIENCE {
                return Err("the controller doesn't compare any more".into());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    async fn at_rest(&mut self) -> Result<()> {
        say("at rest");
        let (api, calls) = (self.settled().await?, counts::of_broker(self.broker.ops).await?);
        let (begun, cpu) = (moment::now(), self.controller.cpu()?);
        self.comparisons(self.options.rest).await?;
        let elapsed = begun.elapsed().as_secs_f64();
        let caused = self.settled().await?.since(&api);
        let writes = caused.writes();
        self.report.count(
            "writes at rest",
            format!("{} in {elapsed:.0} s", writes.total()),
            "0",
            writes.total() == 0,
        );
        if writes.total() > 0 {
            self.report.figure("they are", writes.text());
        }
        self.report.figure("all API requests of this time", caused.text());
        let now = counts::of_broker(self.broker.ops).await?;
        let caused = grown(&now, &calls);
        let looks = caused.get("k8s_mark").copied().unwrap_or_default();
        let of_policies: u64 = ["k8s_policies", "k8s_policy"]
            .iter()
            .filter_map(|name| caused.get(*name))
            .sum();
        self.report.count(
            "requests of a full comparison",
            format!(
                "{looks} comparisons, {of_policies} other requests about policies ({})",
                text(&caused)
            ),
            "one each",
            looks >= self.options.rest && of_policies == 0,
        );
        let used = (self.controller.cpu()? - cpu) / elapsed * 100.0;
        self.report
            .figure("controller's CPU at rest", format!("{used:.1} % of a core"));
        Ok(())
    }

    async fn pods(&mut self) -> Result<()> {
        say(&format!("{} pods register and end", self.options.pods));
        let ended = pods::end_all(&self.options, &self.client, &self.broker, &self.controller).await?;
        self.report.goal(
            &format!("{} pods that end at once", ended.count),
            format!(
                "the last end is committed {:.1} s after the first request",
                ended.all.as_secs_f64()
            ),
            "10 s",
            ended.all <= Duration::from_secs(10),
        );
        self.report
            .figure("from a pod's end until the broker has committed it", ended.each.text());
        self.report.figure("API requests of it", ended.api.text());
        self.report.count(
            "tokens of a tenth of them that still count",
            ended.still_valid.to_string(),
            "0",
            ended.still_valid == 0,
        );
        let pods = u64::try_from(ended.count)?;
        let reads = ended.api.0.get("GET pods").copied().unwrap_or_default();
        self.report.count(
            "reads of a pod and messages to the broker for each of them",
            format!(
                "{:.2} and {:.2}",
                per_object(reads, ended.count),
                per_object(ended.broker, ended.count)
            ),
            "1 each",
            reads == pods && ended.broker == pods,
        );
        Ok(())
    }

    fn memory(&mut self) -> Result<()> {
        let (now, most) = self.controller.resident_kib()?;
        self.report.goal(
            "controller's memory at the end, and at its highest",
            format!("{:.1} MiB, {:.1} MiB", mib(now), mib(most)),
            "64 MiB",
            most <= MOST_MEMORY,
        );
        Ok(())
    }
}

fn mib(kib: u64) -> f64 {
    moment::float(kib) / 1024.0
}

fn grown(now: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let by = |(name, value): (&String, &u64)| {
        let by = value.saturating_sub(before.get(name).copied().unwrap_or_default());
        (by > 0).then(|| (name.clone(), by))
    };
    now.iter().filter_map(by).collect()
}

fn text(calls: &BTreeMap<String, u64>) -> String {
    let parts: Vec<String> = calls.iter().map(|(name, count)| format!("{count} {name}")).collect();
    parts.join(", ")
}
