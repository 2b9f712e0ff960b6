//! `agentwrit-broker migrate`: from a real SQLite file into a real PostgreSQL.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "tests"
)]

mod everything;
mod filled;
mod interrupted;
mod refused;
mod running;
mod swept;

use std::path::Path;
use std::sync::OnceLock;

use agentwrit_store_postgres::testing::{Durability, Server};
use agentwrit_testkit::{ADMIN_SECRET, Process, Program};
use serde_json::Value;

const PROGRAM: Program = Program(env!("CARGO_BIN_EXE_agentwrit-broker"));

/// The database server of this program.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(Durability::Fast))
}

/// Code, standard output and standard error of `migrate` with these arguments and settings.
fn run(folder: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = PROGRAM
        .command(folder)
        .arg("migrate")
        .args(arguments)
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Moves `data.db` of the folder to this database, and answers what it says.
fn moved(folder: &Path, url: &str) -> Value {
    let (code, out, err) = run(folder, &["--from", "sqlite:data.db", "--to", url, "--json"], &[]);
    assert_eq!(code, Some(0), "{err}");
    // How far it is, on a machine that is slow.
    assert!(err.lines().all(|line| line.starts_with("migrate: ")), "{err}");
    serde_json::from_str(&out).unwrap()
}

/// A broker on the file in the folder, or on a database.
fn started(folder: &Path, flags: &[&str], url: Option<&str>) -> Process {
    let mut command = PROGRAM.command(folder);
    command
        .args(flags)
        .envs([("AA_ADMIN_SECRET", ADMIN_SECRET), ("AA_PORT", "0")])
        .envs(url.map(|url| ("AA_DATABASE_URL", url)));
    Process::start(&mut command)
}

fn stopped(process: Process) {
    process.signal(rustix::process::Signal::TERM);
    let (code, _, err) = process.end();
    assert_eq!((code, err.as_str()), (Some(0), ""));
}
