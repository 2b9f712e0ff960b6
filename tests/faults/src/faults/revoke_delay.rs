//! From the 200 of a revocation at one replica to the refusal at the others; beside it, a bare ping-pong of the same run.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use agentwrit_crash::check::Which;
use agentwrit_crash::ledger::{Agent, End};
use agentwrit_testkit::Keys;
use agentwrit_testkit::load::agent::{claims, register, validation};
use agentwrit_testkit::load::failure::{Failure, Result};
use agentwrit_testkit::load::http::{Connection, request};
use agentwrit_testkit::load::moment;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{by_socket, server};
use crate::proxy::Proxy;
use crate::world::{World, stands};
use crate::{Fault, Options, Outcome, Progress};

/// What is promised beyond the ping-pong, of 99 in 100.
const PROMISED: Duration = Duration::from_millis(100);
/// What is promised of each.
const WITHIN: Duration = Duration::from_secs(1);
/// Revocations without notifications, at least.
const FEWEST: u32 = 10;
/// How long one is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn run(options: &Options, progress: Progress<'_>) -> Result<Outcome> {
    let fault = Fault::RevokeDelay;
    let rounds = options.rounds(fault);
    let deaf = deaf(options, rounds.div_ceil(10).max(FEWEST)).await?;
    progress(&format!("revoke-delay: without notifications {deaf}"));
    let mut world = World::begin(fault, options, server(), by_socket, |_| vec![]).await?;
    let pinged = ping_pong(rounds).await?;
    let (delays, round_trips) = measured(&mut world, rounds).await?;
    let [delay, trip, ping] = [delays, round_trips, pinged].map(Spread::of);
    progress(&format!(
        "revoke-delay: {delay}; a validation takes {trip}; a ping-pong takes {ping}"
    ));
    if deaf.most > WITHIN {
        let text = format!(
            "without notifications the slowest took {:.1?}, more than {WITHIN:.0?}",
            deaf.most
        );
        world.outcome.findings.add(text);
    }
    if delay.p99 > PROMISED + ping.p99 {
        let text = format!(
            "p99 is {:.1?}, more than {PROMISED:.0?} beyond that of a ping-pong",
            delay.p99
        );
        world.outcome.findings.add(text);
    }
    if delay.most > WITHIN {
        let text = format!("the slowest took {:.1?}, more than {WITHIN:.0?}", delay.most);
        world.outcome.findings.add(text);
    }
    world.check(Which::All).await?;
    let figures = json!({
        "delay": delay.json(), "without_notifications": deaf.json(), "validation": trip.json(), "ping_pong": ping.json(),
    });
    let note = format!("{delay}, without notifications {deaf}, ping-pong {ping}");
    world.outcome.notes.push((note, figures));
    world.finish().await
}

/// Delays and round trips of so many revocations, each at another replica.
async fn measured(world: &mut World, rounds: u32) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let addresses = world.addresses.clone();
    let (mut delays, mut round_trips) = (Vec::new(), Vec::new());
    for round in 0..usize::try_from(rounds).unwrap_or_default() {
        let mut order = addresses.clone();
        order.rotate_left(round % addresses.len().max(1));
        one(world, &order, &mut delays, &mut round_trips).await?;
    }
    Ok((delays, round_trips))
}

/// The same where no notification arrives, so that the replicas hear of it when they look by themselves.
async fn deaf(options: &Options, rounds: u32) -> Result<Spread> {
    let options = Options {
        folder: options.folder.join("deaf"),
        ..options.clone()
    };
    let server = server();
    let socket = server.folder().join(format!(".s.PGSQL.{}", server.port()));
    let proxy = Proxy::start_deaf(socket).await?;
    let address = proxy.address;
    let by_proxy = move |_: &_, database: &str| format!("postgres://owner@{address}/{database}?sslmode=disable");
    let mut world = World::begin(Fault::RevokeDelay, &options, server, by_proxy, |_| vec![]).await?;
    let (delays, _) = measured(&mut world, rounds).await?;
    world.finish().await?;
    Ok(Spread::of(delays))
}

/// Revokes at the first replica, and asks the others until they refuse.
async fn one(
    world: &mut World,
    order: &[SocketAddr],
    delays: &mut Vec<Duration>,
    trips: &mut Vec<Duration>,
) -> Result<()> {
    let [first, others @ ..] = order else { return Ok(()) };
    let mut connection = Connection::open(*first).await?;
    let registered = register(&mut connection, &Keys::default(), &world.launch, "task-delay").await?;
    let token = registered.access_token.expose().to_owned();
    let jti = String::from(claims(&token)?.jti);
    let mut watchers = Vec::new();
    for address in others {
        let mut watcher = Connection::open(*address).await?;
        let begun = moment::now();
        if !stands(&mut watcher, &token).await? {
            world
                .outcome
                .findings
                .add("a replica refuses a new token of another".to_owned());
        }
        trips.push(begun.elapsed());
        watchers.push(tokio::spawn(refused(watcher, validation(&token))));
    }
    let body = format!(r#"{{"level":"token","target":"{jti}"}}"#);
    let answer = connection
        .send(&request("POST", "/v1/revoke", &world.admin, &body))
        .await?;
    if answer.status != 200 {
        return Err(answer.unexpected("revoke"));
    }
    let revoked = moment::now();
    for watcher in watchers {
        let refused = watcher.await.map_err(|error| Failure::Broker(error.to_string()))??;
        // It may hear of it before the caller does.
        delays.push(refused.saturating_duration_since(revoked));
    }
    let own = &mut world.own;
    own.confirmed += 2;
    let mut agent = Agent::new(registered.agent_id, token, None);
    (agent.revoked, agent.end) = (Some(jti), Some(End::Revoked));
    own.agents.push(agent);
    Ok(())
}

/// Asks without a pause until the answer is no; when that was.
async fn refused(mut connection: Connection, request: Vec<u8>) -> Result<Instant> {
    let begun = moment::now();
    loop {
        let answer = connection.send(&request).await?;
        let says: agentwrit_protocol::wire::ValidateResponse = answer.expect("validate", 200)?;
        if !says.valid {
            return Ok(moment::now());
        }
        if begun.elapsed() > PATIENCE {
            return Err(Failure::Broker(format!(
                "a revoked token stands at another replica after {PATIENCE:?}"
            )));
        }
    }
}

/// Round trips of one byte between two tasks, over loopback.
async fn ping_pong(rounds: u32) -> Result<Vec<Duration>> {
    let failed = || Failure::system("ping-pong");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed())?;
    let address = listener.local_addr().map_err(failed())?;
    tokio::spawn(async move {
        let Ok((mut stream, _)) = listener.accept().await else {
            return;
        };
        while let Ok(byte) = stream.read_u8().await {
            if stream.write_u8(byte).await.is_err() {
                return;
            }
        }
    });
    let mut stream = TcpStream::connect(address).await.map_err(failed())?;
    stream.set_nodelay(true).map_err(failed())?;
    let mut times = Vec::new();
    for _ in 0..rounds.max(100) {
        let begun = moment::now();
        stream.write_u8(1).await.map_err(failed())?;
        stream.read_u8().await.map_err(failed())?;
        times.push(begun.elapsed());
    }
    Ok(times)
}

/// How measured times are spread.
#[derive(Debug, Clone, Copy)]
struct Spread {
    p50: Duration,
    p99: Duration,
    most: Duration,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |percent: usize| {
            let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
            times.get(place).copied().unwrap_or_default()
        };
        Self {
            p50: at(50),
            p99: at(99),
            most: at(100),
        }
    }

    fn json(self) -> serde_json::Value {
        let [p50, p99, most] = [self.p50, self.p99, self.most].map(|time| time.as_secs_f64());
        json!({"p50_seconds": p50, "p99_seconds": p99, "max_seconds": most})
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { p50, p99, most } = self;
        write!(formatter, "p50 {p50:.1?}, p99 {p99:.1?}, max {most:.1?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_that_of_the_sorted_times() {
        let spread = Spread::of((1..=200).rev().map(Duration::from_millis).collect());
        let millis = [spread.p50, spread.p99, spread.most].map(|time| time.as_millis());
        assert_eq!(millis, [100, 198, 200]);
        assert_eq!(Spread::of(vec![]).most, Duration::ZERO);
    }
}
