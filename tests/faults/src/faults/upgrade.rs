//! A rolling upgrade across two migrations, under clients that ask again after 503 and broken connections: one that expands,
//! with programs of the version before beside it, and after it one that contracts.

use agentwrit_crash::check::Which;
use agentwrit_crash::line::Manner;
use agentwrit_testkit::load::failure::{Failure, Result};

use super::{by_socket, server};
use crate::world::{REPLICAS, World, blocking};
use crate::{Fault, Options, Outcome, Progress};

/// Has the program be of this version: so many migrations more than the source has.
pub const AS_VERSION: &str = "--as-version";
const OLD: [&str; 2] = [AS_VERSION, "0"];
const EXPANDED: [&str; 2] = [AS_VERSION, "1"];
const CONTRACTED: [&str; 2] = [AS_VERSION, "2"];

/// The last version of the schema.
const VERSION: &str = "SELECT max(version) FROM agentwrit.schema_versions";

pub(crate) async fn run(options: &Options, progress: Progress<'_>) -> Result<Outcome> {
    let options = Options {
        arguments: OLD.to_vec(),
        ..options.clone()
    };
    let mut world = World::begin(Fault::Upgrade, &options, server(), by_socket, |_| vec![]).await?;
    world.is_pinned = true;
    let source: i64 = number(&world, VERSION)?;

    let clients = world.load(Manner::Retries);
    world.a_while(200, 400).await;
    // The first of the new version migrates under the others.
    replace(&mut world, 0, &EXPANDED).await?;
    is(&world, VERSION, source + 1)?;
    world.a_while(300, 500).await;
    // One of the old version ends, and comes back as it was.
    replace(&mut world, 1, &OLD).await?;
    world.a_while(200, 400).await;
    for replica in 1..REPLICAS {
        replace(&mut world, replica, &EXPANDED).await?;
        world.a_while(100, 200).await;
    }
    world.unload(clients).await?;
    // Whoever checks is of the old version: it reads what all of them have written.
    let findings = world.check(Which::All).await?;
    // What the old version wrote has got what the new one needs.
    is(&world, "SELECT count(*) FROM agentwrit.sessions WHERE added <> jti", 0)?;
    progress(&format!(
        "upgrade: {REPLICAS} replicas of schema {} replaced those of {source}, no request failed, {findings} findings",
        source + 1
    ));

    world.set_arguments(None, &CONTRACTED);
    let clients = world.load(Manner::Retries);
    world.a_while(100, 200).await;
    for replica in 0..REPLICAS {
        replace(&mut world, replica, &CONTRACTED).await?;
        is(&world, VERSION, source + 2)?;
        world.a_while(100, 200).await;
    }
    world.unload(clients).await?;
    let findings = world.check(Which::All).await?;
    // A client that is answered 503 asks again, until its broker is replaced: it notices nothing of one that can do nothing.
    let failed = world.failures_told()?;
    if let Some(first) = failed.first() {
        let text = format!("the brokers log {} failures, the first one: {first}", failed.len());
        world.outcome.findings.add(text);
    }
    let log = world.refused(&OLD).await?;
    let wanted = format!(
        "schema version: {} is newer than this broker's {source}, and brokers older than {} don't work with it",
        source + 2,
        source + 1
    );
    if !log.contains(&wanted) {
        let text = format!("a broker of the old version doesn't say {wanted:?}, but: {log}");
        world.outcome.findings.add(text);
    }
    progress(&format!(
        "upgrade: {REPLICAS} replicas of schema {} replaced those of {}, no request failed, {findings} findings; {source} is refused",
        source + 2,
        source + 1
    ));
    world.finish().await
}

/// Ends a replica, and starts it again as this version.
async fn replace(world: &mut World, replica: usize, arguments: &[&'static str]) -> Result<()> {
    world.end(replica).await?;
    world.set_arguments(Some(replica), arguments);
    world.start(replica).await?;
    world.back().await.map(|_| ())
}

fn number(world: &World, sql: &str) -> Result<i64> {
    let found = blocking(|| world.server.sql(&world.database, sql));
    let found = found.and_then(|text| text.parse().map_err(|_| format!("{text:?} is no number")));
    found.map_err(|said| Failure::Broker(format!("{sql}: {said}")))
}

fn is(world: &World, sql: &str, wanted: i64) -> Result<()> {
    let found = number(world, sql)?;
    if found == wanted {
        Ok(())
    } else {
        Err(Failure::Broker(format!("{sql}: {found}, not {wanted}")))
    }
}
