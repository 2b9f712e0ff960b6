//! A broker process: start on one core, readings of `/proc`, end.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agentwrit_protocol::wire::HealthResponse;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::failure::{Failure, Result};
use super::http::{Connection, request};
use super::moment;
use crate::ADMIN_SECRET;

/// Clock ticks of `/proc/PID/stat` a second: `USER_HZ`, the same on every Linux of today.
const TICKS: u32 = 100;
const START_LIMIT: Duration = Duration::from_mins(1);
const STOP_LIMIT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_micros(500);

/// The cores that this process may use, lowest first.
pub fn cores() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else {
        return vec![];
    };
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// Puts the calling thread, and the processes that it starts from now on, on one core.
///
/// # Errors
/// When the core is not ours.
pub fn pin(core: usize) -> Result<()> {
    spread(&[core])
}

/// Lets the calling thread, and the processes that it starts from now on, use any of these cores.
///
/// # Errors
/// When one is not ours.
pub fn spread(cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    sched_setaffinity(None, &set).map_err(|error| Failure::System {
        what: format!("use cores {cores:?}"),
        source: error.into(),
    })
}

/// How to start one.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The program.
    pub program: PathBuf,
    /// Its folder: store, signing key and log.
    pub folder: PathBuf,
    /// Core for it, and core to go back to; `None` leaves both to the system.
    pub cores: Option<(usize, usize)>,
    /// Variables beyond those that every broker here gets.
    pub environment: Vec<(&'static str, String)>,
    /// Its arguments.
    pub arguments: Vec<&'static str>,
}

/// A running broker; killed when dropped.
#[derive(Debug)]
pub struct Broker {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it has a core of its own.
    pub apart: bool,
    /// From exec to the first 200 of `/v1/health`.
    pub started_in: Duration,
}

/// What the system has counted for a process so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time.
    pub cpu: Duration,
    /// Caused to be written to the disk.
    pub written_bytes: u64,
}

/// An address on which nothing listens now.
///
/// # Errors
/// When there is none.
pub fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Failure::system("find a free port"))?;
    listener.local_addr().map_err(Failure::system("find a free port"))
}

fn command(settings: &Settings, address: SocketAddr) -> Result<Command> {
    let log = settings.folder.join("broker.log");
    let log = File::options().create(true).append(true).open(&log);
    let log = log.map_err(Failure::system("open the broker's log"))?;
    let both = log.try_clone().map_err(Failure::system("open the broker's log"))?;
    // Relative to where we are, not to where it will be.
    let program = std::path::absolute(&settings.program).map_err(Failure::system("find the broker's program"))?;
    let mut command = Command::new(program);
    command
        .env_clear()
        .current_dir(&settings.folder)
        .env("HOME", &settings.folder)
        .env("AA_ADMIN_SECRET", ADMIN_SECRET)
        .env("AA_ADMIN_TOKEN_TTL", "86400")
        .env("AA_CHALLENGE_RATE", "0")
        .env("AA_REGISTER_RATE", "0")
        .env("AA_LOG_LEVEL", "quiet")
        .env("AA_PORT", address.port().to_string())
        .envs(settings.environment.iter().map(|(name, value)| (name, value)))
        .args(&settings.arguments)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(both);
    Ok(command)
}

impl Broker {
    /// Starts a broker and waits until it is healthy.
    ///
    /// # Errors
    /// When it can't be started, ends, or is not healthy in time.
    pub async fn start(settings: &Settings) -> Result<Self> {
        Self::start_at(settings, free_address()?).await
    }

    /// The same at this address: one that was there before is found again by those who know it.
    ///
    /// # Errors
    /// When it can't be started, ends, or is not healthy in time.
    pub async fn start_at(settings: &Settings, address: SocketAddr) -> Result<Self> {
        fs::create_dir_all(&settings.folder).map_err(Failure::system("make the broker's folder"))?;
        let mut command = command(settings, address)?;
        if let Some((theirs, _)) = settings.cores {
            pin(theirs)?;
        }
        let begun = moment::now();
        let spawned = command.spawn();
        if let Some((_, ours)) = settings.cores {
            pin(ours)?;
        }
        let child = spawned.map_err(Failure::system(format!("start {}", settings.program.display())))?;
        let mut broker = Self {
            child,
            address,
            apart: settings.cores.is_some(),
            started_in: Duration::ZERO,
        };
        while broker.health().await.is_err() {
            if let Ok(Some(status)) = broker.child.try_wait() {
                return Err(Failure::Broker(format!(
                    "the broker ended at once: {status}: {}",
                    tail(&settings.folder)
                )));
            }
            if begun.elapsed() > START_LIMIT {
                return Err(Failure::Broker("the broker is not healthy after 60 s".into()));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        broker.started_in = begun.elapsed();
        Ok(broker)
    }

    /// What `/v1/health` says, over a connection of its own.
    ///
    /// # Errors
    /// When it doesn't answer 200.
    pub async fn health(&self) -> Result<HealthResponse> {
        let mut connection = Connection::open(self.address).await?;
        let answer = connection.send(&request("GET", "/v1/health", "", "")).await?;
        answer.expect("health", 200)
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn usage(&self) -> Result<Usage> {
        usage(&self.child.id().to_string())
    }

    /// Resident memory, KiB.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resident_kib(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).map_err(Failure::system(path))?;
        Ok(number_after(&text, "VmRSS:"))
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().map_err(Failure::system("kill the broker"))?;
        self.child.wait().map_err(Failure::system("wait for the broker"))?;
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When it doesn't end in time, or not with 0.
    pub async fn stop(mut self) -> Result<()> {
        let raw = i32::try_from(self.child.id()).unwrap_or_default();
        let pid = Pid::from_raw(raw).ok_or_else(|| Failure::Broker("the broker has no process id".into()))?;
        kill_process(pid, Signal::TERM).map_err(|error| Failure::System {
            what: "stop the broker".into(),
            source: error.into(),
        })?;
        let begun = moment::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(Failure::Broker(format!("the broker ended with {status}"))),
                Ok(None) if begun.elapsed() > STOP_LIMIT => {
                    return Err(Failure::Broker("the broker did not stop within 30 s of SIGTERM".into()));
                }
                Ok(None) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(source) => {
                    return Err(Failure::System {
                        what: "wait for the broker".into(),
                        source,
                    });
                }
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Gone already, mostly.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process has used so far; `self` is the calling one.
///
/// # Errors
/// When there is no such process.
pub fn usage(process: &str) -> Result<Usage> {
    let read = |name: &str| {
        let path = format!("/proc/{process}/{name}");
        fs::read_to_string(&path).map_err(Failure::system(path))
    };
    // The program's name is in parentheses and may hold spaces: utime and stime are fields 14 and 15 of the whole.
    let stat = read("stat")?;
    let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
    let ticks: u32 = after
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u32>().ok())
        .sum();
    Ok(Usage {
        cpu: Duration::from_secs(1) * ticks / TICKS,
        written_bytes: number_after(&read("io")?, "\nwrite_bytes:"),
    })
}

fn number_after(text: &str, name: &str) -> u64 {
    let after = text.split_once(name).map_or("", |(_, after)| after);
    after
        .split_whitespace()
        .next()
        .and_then(|field| field.parse().ok())
        .unwrap_or_default()
}

/// The end of a broker's log.
fn tail(folder: &Path) -> String {
    let log = fs::read_to_string(folder.join("broker.log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_counters_of_this_process_can_be_read() {
        assert!(usage("self").is_ok());
        assert!(usage("no such process").is_err());
        assert!(!cores().is_empty());
        assert_eq!(number_after("VmRSS:\t  12 kB\n", "VmRSS:"), 12);
    }
}
