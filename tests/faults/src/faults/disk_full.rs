//! The file system of the server's data is full, or that of its write-ahead log.

use std::time::Duration;

use agentwrit_crash::line::Manner;
use agentwrit_store_postgres::testing::Server;
use agentwrit_testkit::load::failure::Result;

use super::{by_socket, which};
use crate::disk::Disk;
use crate::outcome::seconds;
use crate::world::{World, blocking};
use crate::{Fault, Options, Outcome, Progress};

/// Of the data: what initdb takes, and some rounds.
const DATA_MIB: u32 = 160;
const WAL_MIB: u32 = 32;
/// A segment of the log is 1 MiB here and made anew each time, so that a full file system is met at once.
const SETTINGS: [&str; 5] = [
    "wal_recycle=off",
    "min_wal_size=2MB",
    "max_wal_size=12MB",
    "autovacuum_naptime=1h",
    "restart_after_crash=on",
];

/// Whether file systems can be mounted here.
fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .is_some_and(|uids| uids.split_whitespace().nth(1) == Some("0"))
}

pub(crate) async fn run(options: &Options, progress: Progress<'_>) -> Result<Outcome> {
    let fault = Fault::DiskFull;
    let rounds = options.rounds(fault);
    if !is_root() {
        let mut outcome = Outcome::new(fault, 0);
        outcome.left_out = Some("only root may mount a small file system".to_owned());
        return Ok(outcome);
    }
    let (data, wal) = (Disk::mount(DATA_MIB)?, Disk::mount(WAL_MIB)?);
    let server = blocking(|| Server::start_on(data.path(), wal.path(), &SETTINGS));
    let mut world = World::begin(fault, options, server, by_socket, |_| vec![]).await?;
    for round in 1..=rounds {
        let clients = world.load(Manner::Doubts);
        world.a_while(200, 500).await;
        let (disk, what) = if round % 2 == 1 { (&data, "data") } else { (&wal, "log") };
        blocking(|| disk.fill())?;
        world.until_felt().await;
        world.a_while(1_500, 2_500).await;
        blocking(|| disk.drain())?;
        // A server whose log is full ends itself, and whoever runs it starts it again.
        let has_ended = blocking(|| is_gone(&world.server));
        if has_ended {
            blocking(|| world.server.restart());
        }
        let back = world.back().await?;
        world.a_while(100, 300).await;
        world.unload(clients).await?;
        world.must_be_felt(Duration::MAX);
        let findings = world.check(which(round, rounds)).await?;
        let ended = if has_ended { ", the server had ended" } else { "" };
        progress(&format!(
            "disk-full: round {round}: no room for the {what}{ended}, back after {}, {findings} findings",
            seconds(back)
        ));
    }
    world.finish().await
}

/// Whether the server doesn't come back by itself.
fn is_gone(server: &Server) -> bool {
    for _ in 0..10 {
        if server.answers() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    true
}
