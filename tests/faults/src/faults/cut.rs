//! Connections to the server stall, and are cut, or go on.

use agentwrit_crash::line::Manner;
use agentwrit_testkit::load::failure::Result;

use super::{server, which};
use crate::outcome::seconds;
use crate::proxy::{Mode, Proxy};
use crate::world::World;
use crate::{Fault, Options, Outcome, Progress};

pub(crate) async fn run(options: &Options, progress: Progress<'_>) -> Result<Outcome> {
    let fault = Fault::Cut;
    let server = server();
    let socket = server.folder().join(format!(".s.PGSQL.{}", server.port()));
    let proxy = Proxy::start(socket).await?;
    let address = proxy.address;
    let by_proxy = move |_: &_, database: &str| format!("postgres://owner@{address}/{database}?sslmode=disable");
    let mut world = World::begin(fault, options, server, by_proxy, |_| vec![]).await?;
    let rounds = options.rounds(fault);
    for round in 1..=rounds {
        let clients = world.load(Manner::Doubts);
        world.a_while(200, 600).await;
        proxy.set(Mode::Stalled);
        // Each second time what was held up arrives after all.
        let is_cut = round % 2 == 1;
        if is_cut {
            tokio::time::sleep(options.cut / 2).await;
            proxy.set(Mode::Cut);
            tokio::time::sleep(options.cut / 2).await;
        } else {
            tokio::time::sleep(options.cut).await;
        }
        proxy.set(Mode::Open);
        let back = world.back().await?;
        world.a_while(100, 300).await;
        world.unload(clients).await?;
        world.must_be_felt(options.cut);
        let findings = world.check(which(round, rounds)).await?;
        let what = if is_cut { "stalled and cut" } else { "stalled" };
        progress(&format!(
            "cut: round {round}: {what} for {}, back after {}, {findings} findings",
            seconds(options.cut),
            seconds(back)
        ));
    }
    world.finish().await
}
