//! kill -9 of one of three replicas at a random moment.

use agentwrit_crash::line::Manner;
use agentwrit_testkit::load::failure::Result;

use super::{by_socket, server, which};
use crate::outcome::seconds;
use crate::world::{REPLICAS, World};
use crate::{Fault, Options, Outcome, Progress};

pub(crate) async fn run(options: &Options, progress: Progress<'_>) -> Result<Outcome> {
    let fault = Fault::KillBroker;
    let mut world = World::begin(fault, options, server(), by_socket, |_| vec![]).await?;
    let rounds = options.rounds(fault);
    for round in 1..=rounds {
        let clients = world.load(Manner::Doubts);
        let after = world.a_while(100, 800).await;
        let victim = world.random.usize(..REPLICAS);
        world.kill(victim)?;
        // The others go on meanwhile.
        world.a_while(100, 400).await;
        world.start(victim).await?;
        let back = world.back().await?;
        world.unload(clients).await?;
        let findings = world.check(which(round, rounds)).await?;
        progress(&format!(
            "kill-broker: round {round}: replica {victim} killed after {after:.0?}, back after {}, {findings} findings",
            seconds(back)
        ));
    }
    world.finish().await
}
