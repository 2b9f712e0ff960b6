//! The proof that the check can fail: losses made by hand, each in a copy of the database, are found.

use agentwrit_crash::check::{Findings, Which, check};
use agentwrit_crash::ledger::{Agent, End, Ledger};
use agentwrit_crash::line::Manner;
use agentwrit_crash::run::NOT_OPEN;
use agentwrit_crash::trail::Trail;
use agentwrit_testkit::load::agent::claims;
use agentwrit_testkit::load::failure::{Failure, Result};
use agentwrit_testkit::load::http::Connection;
use serde_json::json;

use super::{by_socket, server};
use crate::world::{REPLICAS, World, blocking};
use crate::{Fault, Options, Outcome, Progress};

/// A loss.
struct Loss {
    name: &'static str,
    /// SQL that makes it, and answers a row for each that it has changed.
    sql: fn(&[Ledger]) -> Result<String>,
    /// One of the findings must say one of these.
    found: &'static [&'static str],
}

const STAND: &str = "UPDATE sessions SET ended_at = NULL, end_reason = NULL WHERE sid =";

const LOSSES: [Loss; 7] = [
    Loss {
        name: "event-missing",
        sql: |_| {
            let middle = "(SELECT max(seq) / 2 FROM audit_events)";
            Ok(format!("DELETE FROM audit_events WHERE seq = {middle} RETURNING 1"))
        },
        found: &["stands where", NOT_OPEN],
    },
    Loss {
        name: "event-changed",
        sql: |_| {
            let middle = "(SELECT max(seq) / 2 FROM audit_events)";
            let changed = r#"replace(json, '"detail":"', '"detail":"x')"#;
            Ok(format!(
                "UPDATE audit_events SET json = {changed} WHERE seq = {middle} RETURNING 1"
            ))
        },
        found: &["hash is not that of its content", NOT_OPEN],
    },
    Loss {
        name: "registration-lost",
        sql: |ledgers| {
            let sid = claims(&find(ledgers, Agent::lives)?.token)?.sid;
            Ok(format!("DELETE FROM sessions WHERE sid = '{sid}' RETURNING 1"))
        },
        found: &["renewal after the restart"],
    },
    Loss {
        name: "release-lost",
        sql: |ledgers| {
            let agent = find(ledgers, |agent| agent.end == Some(End::Released))?;
            Ok(format!("{STAND} '{}' RETURNING 1", claims(&agent.token)?.sid))
        },
        found: &["stands, but it was Released"],
    },
    Loss {
        name: "revocation-lost",
        sql: |ledgers| {
            let agent = find(ledgers, |agent| agent.end == Some(End::Revoked))?;
            let claims = claims(&agent.token)?;
            let (jti, sid) = (&claims.jti, &claims.sid);
            Ok(format!(
                "DELETE FROM revocations WHERE target = '{jti}'; {STAND} '{sid}' RETURNING 1"
            ))
        },
        found: &["stands, but it was Revoked"],
    },
    Loss {
        name: "renewal-lost",
        sql: |ledgers| {
            let agent = find(ledgers, |agent| agent.lives() && !agent.replaced.is_empty())?;
            let replaced = agent.replaced.last().map(String::as_str).unwrap_or_default();
            let forget = "UPDATE sessions SET prev_jti = NULL, prev_until = NULL, prev_exp = NULL WHERE prev_jti =";
            Ok(format!("{forget} '{}' RETURNING 1", claims(replaced)?.jti))
        },
        found: &["stands, but a renewal replaced it"],
    },
    Loss {
        name: "launch-token-unused",
        sql: |_| Ok("UPDATE launch_tokens SET consumed_at = NULL WHERE consumed_at IS NOT NULL RETURNING 1".to_owned()),
        found: &["the launch token of"],
    },
];

fn find(ledgers: &[Ledger], fits: impl Fn(&Agent) -> bool) -> Result<&Agent> {
    let mut agents = ledgers.iter().flat_map(|ledger| &ledger.agents);
    let found = agents.find(|agent| fits(agent));
    found.ok_or_else(|| Failure::Broker("the load was too short: no agent fits the loss".to_owned()))
}

pub(crate) async fn run(options: &Options, progress: Progress<'_>) -> Result<Outcome> {
    let mut world = World::begin(Fault::Proof, options, server(), by_socket, |_| vec![]).await?;
    let clients = world.load(Manner::Doubts);
    world.a_while(900, 1_200).await;
    world.unload(clients).await?;
    // Before a check has used them up.
    let before = world.ledgers().cloned().collect::<Vec<_>>();
    world.check(Which::All).await?;
    for replica in 0..REPLICAS {
        world.end(replica).await?;
    }
    let mut ledgers = world.ledgers().cloned().collect::<Vec<_>>();
    for (ledger, before) in ledgers.iter_mut().zip(before) {
        for (agent, before) in ledger.agents.iter_mut().zip(before.agents) {
            agent.launch = before.launch;
        }
    }
    for loss in &LOSSES {
        let database = loss.name.replace('-', "_");
        let sql = (loss.sql)(&ledgers)?;
        blocking(|| lose(&world, &database, &sql))?;
        let findings = look(&world, &database, ledgers.clone()).await?;
        let is_it = |text: &&String| loss.found.iter().any(|found| text.contains(found));
        if let Some(text) = findings.texts.iter().find(is_it) {
            progress(&format!("proof: {}: found: {text}", loss.name));
        } else {
            let text = format!("{}: NOT found; {} other findings", loss.name, findings.count);
            world.outcome.findings.add(text);
        }
    }
    let note = format!("{} losses made by hand, each found", LOSSES.len());
    world.outcome.notes.push((note, json!({"losses": LOSSES.len()})));
    world.finish().await
}

/// Makes a loss in a copy of the database.
fn lose(world: &World, database: &str, sql: &str) -> Result<()> {
    let failed = |said: String| Failure::Broker(format!("make a loss: {said}"));
    let copy = format!("CREATE DATABASE {database} TEMPLATE {}", world.database);
    world.server.sql("postgres", &copy).map_err(failed)?;
    // The trail's triggers would refuse it.
    let sql = format!("SET session_replication_role = replica; SET search_path = agentwrit; {sql}");
    let changed = world.server.sql(database, &sql).map_err(failed)?;
    if changed.is_empty() {
        return Err(failed(format!("nothing was changed by {sql}")));
    }
    Ok(())
}

async fn look(world: &World, database: &str, mut ledgers: Vec<Ledger>) -> Result<Findings> {
    let broker = world.start_on(database).await?;
    if !broker.health().await?.db_connected {
        return Ok(Findings::one(NOT_OPEN));
    }
    let mut connection = Connection::open(broker.address).await?;
    let mut trail = Trail::default();
    trail.read(&mut connection, &world.admin).await?;
    check(&mut connection, &trail, &mut ledgers, Which::All).await
}
