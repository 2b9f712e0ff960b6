//! Copies made under load: what a broker makes of them.

use agentwrit_testkit::load::agent;
use agentwrit_testkit::load::failure::{Failure, Result};
use agentwrit_testkit::load::http::{Connection, request};
use agentwrit_testkit::load::process::Broker;

use super::after::{Before, new_agents};
use super::{backup, put_back};
use crate::run::{Options, Progress, Run, Summary, copy_folder};
use crate::trail::Trail;

/// Events that the broker writes before it is copied, and after it in the cases where it goes on.
const BEFORE: u64 = 400;
const AFTER: u64 = 3_000;
const COPY: &str = "copy.db";

/// How a copy comes to be the store.
struct Case {
    name: &'static str,
    /// Whether the broker wrote on for long after it was made.
    writes_on: bool,
    /// Whether the start says that it was put back.
    declared: bool,
    /// The rule that the broker then names.
    rule: &'static str,
}

const CASES: [Case; 3] = [
    // Made just before the end: the mark outside the store may be of an earlier moment, so only a person knows.
    Case {
        name: "declared",
        writes_on: false,
        declared: true,
        rule: "declared",
    },
    Case {
        name: "noticed",
        writes_on: true,
        declared: false,
        rule: "lower_sequence",
    },
    Case {
        name: "old and declared",
        writes_on: true,
        declared: true,
        rule: "declared",
    },
];

/// Makes copies under load, kills the broker, and puts them back.
///
/// # Errors
/// When the broker doesn't start, or answers what it must not.
pub async fn copies(options: &Options, progress: Progress<'_>) -> Result<Summary> {
    let mut summary = Summary::default();
    for case in CASES {
        let findings = one(options, &case, progress).await?;
        summary.count_texts(&findings, progress);
    }
    Ok(summary)
}

async fn one(options: &Options, case: &Case, progress: Progress<'_>) -> Result<Vec<String>> {
    let options = Options {
        folder: options.folder.join(case.name.replace(' ', "-")),
        ..options.clone()
    };
    let (mut run, mut broker) = Run::begin(&options).await?;
    let clients = run.start_clients(&broker, 1).await?;
    has_events(&broker, BEFORE).await?;
    let folder = run.folder().to_owned();
    let made = backup(&options.program, &folder, COPY).await?;
    if case.writes_on {
        has_events(&broker, made.sequence + AFTER).await?;
    }
    broker.kill()?;
    run.end_clients(clients).await?;
    let before = original_trail(&run, &options).await?;
    put_back(&folder, COPY)?;
    let arguments = if case.declared { vec!["--restored"] } else { vec![] };
    let broker = run.start_with(arguments).await?;
    progress(&format!(
        "{}: copied {} events ({} KiB) in {} s under load, killed after {}; {} agents",
        case.name,
        made.sequence,
        made.bytes / 1024,
        made.seconds,
        before.len(),
        run.ledgers().iter().map(|ledger| ledger.agents.len()).sum::<usize>(),
    ));
    let mut findings = Vec::new();
    let mut connection = Connection::open(broker.address).await?;
    let held = Before::of(run.admin(), run.launch(), run.ledgers());
    held.counts_nowhere(&mut connection, &mut findings).await?;
    let admin = agent::login(&mut connection).await?;
    new_agents(&mut connection, &admin, &mut findings).await?;
    let mut trail = Trail::default();
    trail.read(&mut connection, &admin).await?;
    let sequence = usize::try_from(made.sequence).unwrap_or_default();
    the_trail_tells(&trail, &before, sequence, &mut findings);
    the_rule_is_told(&mut connection, &admin, case.rule, &mut findings).await?;
    broker.stop().await?;
    Ok(findings)
}

/// Waits until the trail has so many events.
async fn has_events(broker: &Broker, events: u64) -> Result<()> {
    while u64::try_from(broker.health().await?.audit_events_count).unwrap_or_default() < events {
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// The trail of the store that the copy replaces, from a broker on another copy of all its files.
async fn original_trail(run: &Run, options: &Options) -> Result<Trail> {
    let folder = options.folder.join("original");
    copy_folder(run.folder(), &folder)?;
    let broker = run.start_in(folder).await?;
    let mut connection = Connection::open(broker.address).await?;
    let mut trail = Trail::default();
    trail.read(&mut connection, run.admin()).await?;
    broker.stop().await?;
    match trail.findings().first() {
        Some(text) => Err(Failure::Broker(format!("the trail of before: {text}"))),
        None => Ok(trail),
    }
}

/// The chain is whole, is the copy's up to its last event, and goes on with the event that tells of the restore.
fn the_trail_tells(trail: &Trail, before: &Trail, copied: usize, findings: &mut Vec<String>) {
    findings.extend(trail.findings().iter().cloned());
    let common = trail.common(before);
    if common != copied {
        findings.push(format!("{common} events are those of before, and {copied} were copied"));
    }
    let told = trail.total("store_restored");
    if told != 1 {
        findings.push(format!("store_restored is told {told} times"));
    }
}

async fn the_rule_is_told(
    connection: &mut Connection,
    admin: &str,
    rule: &str,
    findings: &mut Vec<String>,
) -> Result<()> {
    let path = "/v1/audit/events?event_type=store_restored";
    let page: serde_json::Value = connection
        .send(&request("GET", path, admin, ""))
        .await?
        .expect("audit", 200)?;
    let event = page.get("events").and_then(|events| events.get(0));
    let detail = event
        .and_then(|event| event.get("detail")?.as_str())
        .unwrap_or_default();
    if !detail.starts_with(&format!("rule={rule} ")) {
        findings.push(format!("the rule should be {rule}: {detail:?}"));
    }
    Ok(())
}
