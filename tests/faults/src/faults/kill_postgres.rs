//! kill -9 of the server, and its start again: what it had committed is on the disk.

use std::time::Duration;

use agentwrit_crash::line::Manner;
use agentwrit_testkit::load::failure::Result;

use super::{by_socket, server, which};
use crate::outcome::seconds;
use crate::world::{World, blocking};
use crate::{Fault, Options, Outcome, Progress};

pub(crate) async fn run(options: &Options, progress: Progress<'_>) -> Result<Outcome> {
    let fault = Fault::KillPostgres;
    let mut world = World::begin(fault, options, server(), by_socket, |_| vec![]).await?;
    let rounds = options.rounds(fault);
    for round in 1..=rounds {
        let clients = world.load(Manner::Doubts);
        let after = world.a_while(200, 900).await;
        world.server.kill();
        world.until_felt().await;
        world.a_while(50, 600).await;
        blocking(|| world.server.restart());
        let back = world.back().await?;
        world.a_while(50, 200).await;
        world.unload(clients).await?;
        world.must_be_felt(Duration::MAX);
        let findings = world.check(which(round, rounds)).await?;
        progress(&format!(
            "kill-postgres: round {round}: killed after {after:.0?}, back {} after it was up, {findings} findings",
            seconds(back)
        ));
    }
    world.finish().await
}
