//! A backup under load, put back after kill -9: nobody's authority of before comes back, and everybody gets a new one.

pub mod after;
mod agents;
mod cluster;
mod copies;
mod report;

use std::path::{Path, PathBuf};
use std::process::Command;

use agentwrit_testkit::load::failure::{Failure, Result};
use serde::Deserialize;

pub use self::agents::{Pods, pods};
pub use self::copies::copies;

/// What `agentwrit-broker backup --json` says.
#[derive(Debug, Clone, Deserialize)]
pub struct Backup {
    /// Number of the last event.
    pub sequence: u64,
    /// Size of the file.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Copies the store in a broker's folder into this file.
async fn backup(program: &Path, folder: &Path, file: &str) -> Result<Backup> {
    // Relative to where we are, not to where it will be.
    let program = std::path::absolute(program).map_err(Failure::system("find the broker's program"))?;
    let mut command = Command::new(program);
    command.env_clear().current_dir(folder).args(["backup", "--json", file]);
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.map_err(|error| Failure::Broker(format!("backup: {error}")))?;
    let output = output.map_err(Failure::system("run the backup"))?;
    if !output.status.success() || !output.stderr.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Failure::Broker(format!("backup: {}: {said}", output.status)));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| Failure::Broker(format!("backup: {error}")))
}

/// Puts a copy in the place of the store, as somebody does who forgets the WAL that the killed broker has left.
fn put_back(folder: &Path, file: &str) -> Result<()> {
    let paths: [PathBuf; 2] = [folder.join(file), folder.join("data.db")];
    std::fs::rename(&paths[0], &paths[1]).map_err(Failure::system("put the copy back"))
}
