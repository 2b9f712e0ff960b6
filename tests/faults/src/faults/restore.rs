//! A backup is put back under running replicas: nothing of before counts any more, at any of them.

use std::path::Path;
use std::time::Duration;

use agentwrit_crash::line::Manner;
use agentwrit_crash::restore::after::{Before, new_agents};
use agentwrit_crash::store::{dump, put_back_dump, ran};
use agentwrit_store_postgres::testing::Server;
use agentwrit_testkit::load::agent::login;
use agentwrit_testkit::load::failure::{Failure, Result};
use agentwrit_testkit::load::http::Connection;
use agentwrit_testkit::load::moment;

use super::{by_socket, server};
use crate::outcome::seconds;
use crate::world::{REPLICAS, World, blocking};
use crate::{Fault, Options, Outcome, Progress};

/// How long the replicas may take to notice, and to serve again.
const PATIENCE: Duration = Duration::from_mins(1);
/// Logins have a rate.
const LOG_IN_AGAIN: Duration = Duration::from_millis(300);

pub(crate) async fn run(options: &Options, progress: Progress<'_>) -> Result<Outcome> {
    let rounds = options.rounds(Fault::Restore);
    let mut whole: Option<Outcome> = None;
    for round in 1..=rounds {
        // Nothing of a round is of use for the next: a world of its own each.
        let options = Options {
            folder: options.folder.join(format!("round-{round}")),
            ..options.clone()
        };
        let outcome = one(&options, round, progress).await?;
        whole = Some(match whole {
            None => outcome,
            Some(before) => Outcome {
                acknowledged: before.acknowledged + outcome.acknowledged,
                refused: before.refused + outcome.refused,
                broken: before.broken + outcome.broken,
                events: before.events + outcome.events,
                slowest: before.slowest.max(outcome.slowest),
                back: before.back.max(outcome.back),
                findings: {
                    let mut findings = before.findings;
                    findings.join(outcome.findings);
                    findings
                },
                ..outcome
            },
        });
    }
    let mut outcome = whole.unwrap_or_else(|| Outcome::new(Fault::Restore, 0));
    outcome.notes.push((
        "nothing of before counts at any replica".to_owned(),
        serde_json::json!({}),
    ));
    Ok(outcome)
}

async fn one(options: &Options, round: u32, progress: Progress<'_>) -> Result<Outcome> {
    let mut world = World::begin(Fault::Restore, options, server(), by_socket, |_| vec![]).await?;
    // By turns: a dump of the database, and a copy of the server's files.
    let is_dump = round % 2 == 1;
    let clients = world.load(Manner::Doubts);
    world.a_while(800, 1_200).await;
    let copied = world.whole_trail().await?.len();
    blocking(|| {
        if is_dump {
            dump(&world.server, &world.database)
        } else {
            copy_files(&world.server)
        }
    })?;
    world.a_while(500, 900).await;
    world.unload(clients).await?;
    let trail = world.whole_trail().await?;
    let held = Before::of(
        &world.admin,
        &world.launch,
        &world.ledgers().cloned().collect::<Vec<_>>(),
    );
    let begun = moment::now();
    blocking(|| {
        if is_dump {
            put_back_dump(&world.server, &world.database)
        } else {
            put_back_files(&mut world.server)
        }
    })?;
    let put_back = begun.elapsed();
    let begun = moment::now();
    world.admin = logged_in(&world).await?;
    world.back().await?;
    let back = begun.elapsed();
    world.outcome.back = Some(back);
    let mut findings = Vec::new();
    for (replica, address) in world.addresses.clone().into_iter().enumerate() {
        let mut connection = Connection::open(address).await?;
        // Launch tokens are looked up in the store, which is the same for all: each replica is asked about some of them.
        let launches = held.launches.iter().skip(replica).step_by(REPLICAS).cloned().collect();
        let held = Before {
            launches,
            ..held.clone()
        };
        held.counts_nowhere(&mut connection, &mut findings).await?;
        new_agents(&mut connection, &world.admin, &mut findings).await?;
    }
    let after = world.whole_trail().await?;
    findings.extend(after.findings().iter().cloned());
    let common = after.common(&trail);
    if common < copied || common >= trail.len() {
        let (before, wanted) = (trail.len(), format!("{copied} or more, but not all"));
        findings.push(format!("{common} of {before} events of before are there, not {wanted}"));
    }
    let told = after.total("store_restored");
    if told != 1 {
        findings.push(format!("store_restored is told {told} times"));
    }
    let what = if is_dump { "dump" } else { "copy of the server's files" };
    progress(&format!(
        "restore: round {round}: a {what} put back in {}, {common} of {} events are left, back {} later, {} findings",
        seconds(put_back),
        trail.len(),
        seconds(back),
        findings.len()
    ));
    world.outcome.findings.add_all(findings);
    world.count();
    world.outcome.events = after.len();
    world.finish().await
}

/// Logs in at the first replica, as soon as it serves again.
async fn logged_in(world: &World) -> Result<String> {
    let first = world.addresses.first().copied();
    let first = first.ok_or_else(|| Failure::Broker("no replicas".to_owned()))?;
    let begun = moment::now();
    loop {
        let mut connection = Connection::open(first).await?;
        match login(&mut connection).await {
            Err(Failure::Answer { status: 503, .. }) if begun.elapsed() < PATIENCE => {}
            done => return done,
        }
        tokio::time::sleep(LOG_IN_AGAIN).await;
    }
}

fn copy_files(server: &Server) -> Result<()> {
    let mut command = server.program("pg_basebackup");
    command.args(["--wal-method=stream", "--checkpoint=fast", "--pgdata"]);
    command.arg(server.folder().join("copy"));
    ran(command, "pg_basebackup")
}

fn put_back_files(server: &mut Server) -> Result<()> {
    server.kill();
    let at = |name: &str| server.folder().join(name);
    let moved = |from: &Path, to: &Path| std::fs::rename(from, to).map_err(Failure::system("put the copy back"));
    moved(&at("data"), &at("data-before"))?;
    moved(&at("copy"), &at("data"))?;
    server.restart();
    Ok(())
}
