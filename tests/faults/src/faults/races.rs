//! Many want the same at once, at all replicas: one gets it.

use std::net::SocketAddr;
use std::sync::Arc;

use agentwrit_crash::check::Which;
use agentwrit_crash::client::AGENT_TTL;
use agentwrit_crash::ledger::Agent;
use agentwrit_crash::line::{Line, Manner, Reply};
use agentwrit_protocol::wire::{RegisterResponse, RenewResponse};
use agentwrit_testkit::Keys;
use agentwrit_testkit::load::agent::{self, challenge, registration};
use agentwrit_testkit::load::failure::{Failure, Result};
use agentwrit_testkit::load::http::{Connection, request};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::{by_socket, server};
use crate::world::World;
use crate::{Fault, Options, Outcome, Progress};

/// Users of the same thing.
const USERS: usize = 64;
/// Between two lines of progress, rounds.
const TOLD: u32 = 50;

pub(crate) async fn run(options: &Options, progress: Progress<'_>) -> Result<Outcome> {
    let fault = Fault::Races;
    let mut world = World::begin(fault, options, server(), by_socket, |_| vec![]).await?;
    let rounds = options.rounds(fault);
    let mut lines = lines(&world.addresses);
    let first = world.addresses.first().copied();
    let address = first.ok_or_else(|| Failure::Broker("no replicas".to_owned()))?;
    let mut connection = Connection::open(address).await?;
    for round in 1..=rounds {
        one_launch_token(&mut world, &mut connection, &mut lines).await?;
        one_nonce(&mut world, &mut connection, &mut lines).await?;
        one_renewal(&mut world, &mut lines).await?;
        if round.is_multiple_of(TOLD) {
            progress(&format!("races: round {round} of {rounds}: one winner each"));
        }
    }
    for line in lines {
        world.own.heard(line.counts);
    }
    world.check(Which::All).await?;
    let figures = serde_json::json!({"users": USERS, "races": u64::from(rounds) * 3});
    let note = (
        format!("{USERS} users of one launch token, one nonce, one renewal: one winner each"),
        figures,
    );
    world.outcome.notes.push(note);
    world.finish().await
}

fn lines(addresses: &[SocketAddr]) -> Vec<Line> {
    (0..USERS)
        .map(|user| Line::new(addresses, user, Manner::Ends))
        .collect()
}

/// Sends all of these at once, each over a line of its own; the answers in the same order.
async fn at_once(lines: &mut Vec<Line>, requests: Vec<Vec<u8>>) -> Result<Vec<Reply>> {
    let barrier = Arc::new(Barrier::new(requests.len()));
    let mut tasks = JoinSet::new();
    for (number, (mut line, request)) in std::mem::take(lines).into_iter().zip(requests).enumerate() {
        let barrier = Arc::clone(&barrier);
        tasks.spawn(async move {
            barrier.wait().await;
            let reply = line.send(&request).await;
            (number, line, reply)
        });
    }
    let mut done = Vec::new();
    while let Some(one) = tasks.join_next().await {
        done.push(one.map_err(|error| Failure::Broker(error.to_string()))?);
    }
    done.sort_by_key(|(number, ..)| *number);
    let mut replies = Vec::new();
    for (_, line, reply) in done {
        lines.push(line);
        replies.push(reply?);
    }
    Ok(replies)
}

/// The one that has 200, after a look at what the others heard: this status with this text.
fn winner(world: &mut World, what: &str, replies: &[Reply], (status, text): (u16, &str)) -> Option<usize> {
    let mut winners = Vec::new();
    for (user, reply) in replies.iter().enumerate() {
        let body = String::from_utf8_lossy(&reply.body);
        if reply.status == 200 {
            winners.push(user);
        } else if reply.status != status || !body.contains(text) {
            let text = format!("{what}: a loser heard {}: {}", reply.status, body.trim());
            world.outcome.findings.add(text);
        }
    }
    if winners.len() != 1 {
        world.outcome.findings.add(format!("{what}: {} winners", winners.len()));
    }
    winners.first().copied()
}

fn registered(world: &mut World, reply: &Reply, launch: Option<String>) -> Result<()> {
    let registered: RegisterResponse = reply.expect("register", 200)?;
    let token = registered.access_token.expose().to_owned();
    let own = &mut world.own;
    own.agents.push(Agent::new(registered.agent_id, token, launch));
    own.confirmed += 1;
    Ok(())
}

async fn one_launch_token(world: &mut World, connection: &mut Connection, lines: &mut Vec<Line>) -> Result<()> {
    let launch = agent::launch(connection, &world.admin, true, AGENT_TTL).await?;
    world.own.launches += 1;
    let mut requests = Vec::new();
    for user in 0..USERS {
        let keys = Keys::numbered(u64::try_from(user).unwrap_or_default());
        let nonce = challenge(connection).await?;
        let body = registration(&keys, &launch, &nonce, &format!("task-{user}"));
        requests.push(request("POST", "/v1/register", "", &body));
    }
    let replies = at_once(lines, requests).await?;
    let won = winner(
        world,
        "one launch token",
        &replies,
        (401, "launch token already consumed"),
    );
    match won.and_then(|user| replies.get(user)) {
        Some(reply) => registered(world, reply, Some(launch)),
        None => Ok(()),
    }
}

async fn one_nonce(world: &mut World, connection: &mut Connection, lines: &mut Vec<Line>) -> Result<()> {
    let keys = Keys::default();
    let nonce = challenge(connection).await?;
    let body = registration(&keys, &world.launch, &nonce, "task-nonce");
    let replies = at_once(lines, vec![request("POST", "/v1/register", "", &body); USERS]).await?;
    let won = winner(world, "one nonce", &replies, (401, "nonce already consumed"));
    match won.and_then(|user| replies.get(user)) {
        Some(reply) => registered(world, reply, None),
        None => Ok(()),
    }
}

/// Of the agent that came last.
async fn one_renewal(world: &mut World, lines: &mut Vec<Line>) -> Result<()> {
    let Some(token) = world.own.agents.last().map(|agent| agent.token.clone()) else {
        return Ok(());
    };
    let replies = at_once(lines, vec![request("POST", "/v1/token/renew", &token, ""); USERS]).await?;
    let won = winner(world, "one renewal", &replies, (403, "token has been revoked"));
    let Some(reply) = won.and_then(|user| replies.get(user)) else {
        return Ok(());
    };
    let renewed: RenewResponse = reply.expect("renew", 200)?;
    let own = &mut world.own;
    own.confirmed += 1;
    if let Some(agent) = own.agents.last_mut() {
        renewed.access_token.expose().clone_into(&mut agent.token);
        agent.replaced.push(token);
        agent.renewals += 1;
    }
    Ok(())
}
