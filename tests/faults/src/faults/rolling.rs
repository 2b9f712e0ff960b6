//! All replicas are restarted one by one, under clients that ask again after 503 and broken connections: they notice nothing.

use std::time::Duration;

use agentwrit_crash::line::Manner;
use agentwrit_testkit::load::failure::{Failure, Result};
use agentwrit_testkit::load::moment;

use super::{by_socket, server, which};
use crate::outcome::seconds;
use crate::world::{REPLICAS, World};
use crate::{Fault, Options, Outcome, Progress};

/// What Kubernetes gives a pod between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(30);

pub(crate) async fn run(options: &Options, progress: Progress<'_>) -> Result<Outcome> {
    let fault = Fault::Rolling;
    let mut world = World::begin(fault, options, server(), by_socket, |_| vec![]).await?;
    let rounds = options.rounds(fault);
    let mut slowest = Duration::ZERO;
    for round in 1..=rounds {
        let clients = world.load(Manner::Retries);
        world.a_while(200, 500).await;
        for replica in 0..REPLICAS {
            let begun = moment::now();
            world.end(replica).await?;
            let took = begun.elapsed();
            slowest = slowest.max(took);
            if took > GRACE {
                return Err(Failure::Broker(format!("a replica takes {} to end", seconds(took))));
            }
            world.start(replica).await?;
            world.back().await?;
            world.a_while(100, 300).await;
        }
        // A client that was refused anything has ended with it.
        world.unload(clients).await?;
        let findings = world.check(which(round, rounds)).await?;
        progress(&format!(
            "rolling: round {round}: {REPLICAS} replicas restarted, no request failed, the slowest end took {}, {findings} findings",
            seconds(slowest)
        ));
    }
    let figures = serde_json::json!({"slowest_end_seconds": slowest.as_secs_f64()});
    let note = (format!("no request failed, slowest end {}", seconds(slowest)), figures);
    world.outcome.notes.push(note);
    world.finish().await
}
