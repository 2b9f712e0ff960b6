//! The clock of one replica jumps an hour: it turns unready, and no answer of it contradicts the others.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agentwrit_crash::check::Which;
use agentwrit_crash::ledger::Agent;
use agentwrit_protocol::wire::{RegisterResponse, RenewResponse};
use agentwrit_testkit::Keys;
use agentwrit_testkit::load::agent::{challenge, launch, registration};
use agentwrit_testkit::load::failure::{Failure, Result};
use agentwrit_testkit::load::http::{Connection, request};
use agentwrit_testkit::load::moment;
use serde_json::json;

use super::{by_socket, server};
use crate::world::{World, stands};
use crate::{Fault, Options, Outcome, Progress};

/// The replica whose clock jumps.
const JUMPER: usize = 1;
const HOUR: i64 = 3600;
/// Life of the tokens here, seconds: they expire within the jump.
const TTL: u32 = 900;
/// Agents whose tokens are asked about.
const AGENTS: usize = 5;
/// How long the replica may take to notice.
const NOTICED: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What moves the clock of the jumper.
struct Clock(PathBuf);

impl Clock {
    fn set(&self, ahead: i64) -> Result<()> {
        std::fs::write(&self.0, ahead.to_ne_bytes()).map_err(Failure::system("set the clock"))
    }
}

pub(crate) async fn run(options: &Options, progress: Progress<'_>) -> Result<Outcome> {
    let fault = Fault::Clock;
    let folder = options.folder.join(fault.name());
    std::fs::create_dir_all(&folder).map_err(Failure::system("make a folder"))?;
    let absolute = |path: &Path| std::path::absolute(path).map_err(Failure::system("find a file"));
    let clock = Clock(absolute(&folder.join("clock"))?);
    clock.set(0)?;
    let library = absolute(&options.clock)?.display().to_string();
    let jumps = |replica: usize| {
        if replica == JUMPER {
            vec![
                ("LD_PRELOAD", library.clone()),
                ("AGENTWRIT_CLOCK", clock.0.display().to_string()),
            ]
        } else {
            vec![]
        }
    };
    let mut world = World::begin(fault, options, server(), by_socket, jumps).await?;
    let rounds = options.rounds(fault);
    for round in 1..=rounds {
        for (ahead, name) in [(HOUR, "an hour ahead"), (-HOUR, "an hour back")] {
            let before = world.outcome.findings.count;
            jump(&mut world, &clock, ahead, name).await?;
            let findings = world.outcome.findings.count - before;
            progress(&format!("clock: round {round}: {name}, {findings} findings"));
        }
    }
    world.check(Which::All).await?;
    let figures = json!({"jumps": u64::from(rounds) * 2});
    world.outcome.notes.push(("1 h ahead and back".to_owned(), figures));
    world.finish().await
}

/// An agent whose token expires within the jump.
async fn agent(world: &mut World, connection: &mut Connection) -> Result<String> {
    let of_one = launch(connection, &world.admin, true, TTL).await?;
    world.own.launches += 1;
    let nonce = challenge(connection).await?;
    let body = registration(&Keys::default(), &of_one, &nonce, "task-clock");
    let answer = connection.send(&request("POST", "/v1/register", "", &body)).await?;
    let registered: RegisterResponse = answer.expect("register", 200)?;
    let token = registered.access_token.expose().to_owned();
    let own = &mut world.own;
    own.confirmed += 2;
    own.agents
        .push(Agent::new(registered.agent_id, token.clone(), Some(of_one)));
    Ok(token)
}

async fn jump(world: &mut World, clock: &Clock, ahead: i64, name: &str) -> Result<()> {
    let address = |number: usize| world.addresses.get(number).copied();
    let (Some(jumper), Some(other)) = (address(JUMPER), address(0)) else {
        return Err(Failure::Broker("no replicas".to_owned()));
    };
    let mut there = Connection::open(jumper).await?;
    let mut here = Connection::open(other).await?;
    let mut tokens = Vec::new();
    for _ in 0..AGENTS {
        tokens.push(agent(world, &mut here).await?);
    }
    clock.set(ahead)?;
    let mut findings = Vec::new();
    if !unready_for(&mut there, "clock").await? {
        findings.push(format!(
            "{name}: the replica is not unready for its clock within {NOTICED:?}"
        ));
    }
    if !is_ready(&mut here).await? {
        findings.push(format!("{name}: another replica is unready"));
    }
    for token in &tokens {
        if !stands(&mut here, token).await? {
            findings.push(format!("{name}: another replica refuses a token that stands"));
        }
        let answer = there.send(&agentwrit_testkit::load::agent::validation(token)).await?;
        let body = String::from_utf8_lossy(answer.body).into_owned();
        if answer.status != 503 && !body.contains(r#""valid":true"#) {
            findings.push(format!(
                "{name}: the replica contradicts the others: {} {}",
                answer.status,
                body.trim()
            ));
        }
    }
    renewed(world, (&mut here, &mut there), tokens.first(), &mut findings, name).await?;
    issued(world, (&mut here, &mut there), &mut findings, name).await?;
    clock.set(0)?;
    let begun = moment::now();
    while !is_ready(&mut there).await? {
        if begun.elapsed() > NOTICED {
            findings.push(format!(
                "{name}: the replica is not ready after its clock is right again"
            ));
            break;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    world.back().await?;
    for token in tokens.iter().skip(1) {
        for connection in [&mut here, &mut there] {
            if !stands(connection, token).await? {
                findings.push(format!(
                    "{name}: a token that stands is refused after the clock is right again"
                ));
            }
        }
    }
    world.outcome.findings.add_all(findings);
    Ok(())
}

/// A renewal at the replica is refused, or what it gives is good at the others.
async fn renewed(
    world: &mut World,
    (here, there): (&mut Connection, &mut Connection),
    token: Option<&String>,
    findings: &mut Vec<String>,
    name: &str,
) -> Result<()> {
    let Some(token) = token else { return Ok(()) };
    let answer = there.send(&request("POST", "/v1/token/renew", token, "")).await?;
    if answer.status == 503 {
        return Ok(());
    }
    let renewed: RenewResponse = match answer.expect("renewal at the replica whose clock is wrong", 200) {
        Ok(renewed) => renewed,
        Err(error) => {
            findings.push(format!("{name}: {error}"));
            return Ok(());
        }
    };
    let new = renewed.access_token.expose().to_owned();
    if !stands(here, &new).await? {
        findings.push(format!("{name}: another replica refuses what the replica has issued"));
    }
    let own = &mut world.own;
    own.confirmed += 1;
    if let Some(agent) = own.agents.iter_mut().find(|agent| agent.token == *token) {
        agent.replaced.push(std::mem::replace(&mut agent.token, new));
        agent.renewals += 1;
    }
    Ok(())
}

/// The same of a registration.
async fn issued(
    world: &mut World,
    (here, there): (&mut Connection, &mut Connection),
    findings: &mut Vec<String>,
    name: &str,
) -> Result<()> {
    let nonce = challenge(here).await?;
    let body = registration(&Keys::default(), &world.launch, &nonce, "task-clock");
    let answer = there.send(&request("POST", "/v1/register", "", &body)).await?;
    if answer.status == 503 {
        return Ok(());
    }
    match answer.expect::<RegisterResponse>("registration at the replica whose clock is wrong", 200) {
        Ok(registered) => {
            let token = registered.access_token.expose().to_owned();
            if !stands(here, &token).await? {
                findings.push(format!(
                    "{name}: another replica refuses an agent that the replica has registered"
                ));
            }
            let own = &mut world.own;
            own.confirmed += 1;
            own.agents.push(Agent::new(registered.agent_id, token, None));
        }
        Err(error) => findings.push(format!("{name}: {error}")),
    }
    Ok(())
}

async fn is_ready(connection: &mut Connection) -> Result<bool> {
    Ok(connection.send(&request("GET", "/readyz", "", "")).await?.status == 200)
}

/// Waits until `/readyz` is 503 and names this.
async fn unready_for(connection: &mut Connection, word: &str) -> Result<bool> {
    let begun = moment::now();
    loop {
        let answer = connection.send(&request("GET", "/readyz", "", "")).await?;
        if answer.status == 503 && String::from_utf8_lossy(answer.body).contains(word) {
            return Ok(true);
        }
        if begun.elapsed() > NOTICED {
            return Ok(false);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
