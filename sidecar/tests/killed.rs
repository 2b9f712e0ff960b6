//! A sidecar that is killed under a reader of its token file: no read is without a token, partial, or refused.
//!
//! SIGKILL needs a process of its own: this program, started with a folder in its environment, is the sidecar.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)] // Each program uses a part of it.
mod fake_broker;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use agentwrit_protocol::Clock;
use agentwrit_protocol::system::{SystemClock, SystemEntropy};
use agentwrit_sidecar::{Config, Listeners, Log, Stdout, run, terminated};
use fake_broker::FakeBroker;
use tokio::time::{Instant, sleep};

const FOLDER: &str = "KILLED_SIDECAR_FOLDER";
const BROKER: &str = "KILLED_SIDECAR_BROKER";
/// Reads in a second.
const RATE: u32 = 20;
/// So many reads at least.
const READS: u32 = 60;
/// Where a process is when it is killed: after so many requests of a registration (launch, challenge, register), or,
/// with the fourth, when it has replaced the file.
const MOMENTS: [usize; 12] = [3, 4, 1, 3, 2, 4, 3, 3, 4, 1, 4, 4];

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    if let (Some(folder), Ok(broker)) = (std::env::var_os(FOLDER), std::env::var(BROKER)) {
        runtime.block_on(sidecar(Path::new(&folder), broker));
    } else {
        runtime.block_on(no_read_is_without_a_token_while_the_sidecar_is_killed());
    }
}

/// The process that is killed.
async fn sidecar(folder: &Path, broker_url: String) {
    let any = || "127.0.0.1:0".parse().unwrap();
    let config = Config {
        broker_url,
        launch_token: "order-reader".to_owned(),
        scopes: Vec::new(),
        ttl: None,
        endpoint: Some(any()),
        health: any(),
        token_file: folder.join("token"),
        token_file_gid: None,
        identity_file: folder.join("identity"),
        ca_file: folder.join("ca.crt"),
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let stop = terminated().unwrap();
    let listeners = Listeners::bind(&config).unwrap();
    let log = Log::new(Arc::clone(&clock), Arc::new(Stdout));
    run(config, listeners, clock, Arc::new(SystemEntropy), log, stop)
        .await
        .unwrap();
}

struct Pod {
    broker: FakeBroker,
    folder: PathBuf,
}

impl Pod {
    fn file(&self) -> PathBuf {
        self.folder.join("token")
    }

    fn start(&self) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(FOLDER, &self.folder).stdout(Stdio::null());
        command.env(BROKER, format!("http://{}", self.broker.address));
        command.spawn().unwrap()
    }

    fn requests(&self) -> usize {
        let of_registrations = |path: &&String| {
            path.starts_with("/v1/k8s/") || path.as_str() == "/v1/challenge" || path.as_str() == "/v1/register"
        };
        self.broker.paths().iter().filter(of_registrations).count()
    }

    /// Waits for a process to be where it is to be killed.
    async fn reaches(&self, moment: usize, requests: usize, former: &str) {
        until(|| match moment {
            1..=3 => self.requests() >= requests + moment,
            _ => std::fs::read_to_string(self.file()).is_ok_and(|token| token != former),
        })
        .await;
    }
}

async fn until(holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_mins(1), "not within a minute");
        sleep(Duration::from_millis(1)).await;
    }
}

async fn no_read_is_without_a_token_while_the_sidecar_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("identity"), "service-account-token\n").unwrap();
    let pod = Pod {
        broker: FakeBroker::start(Arc::new(SystemClock), 3_600).await,
        folder: folder.path().to_owned(),
    };
    let mut process = pod.start();
    pod.reaches(4, 0, "").await;

    let (over, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let reader = tokio::spawn(read(
        pod.broker.clone(),
        pod.file(),
        Arc::clone(&over),
        Arc::clone(&reads),
    ));
    let mut written = 0;
    for moment in MOMENTS.into_iter().cycle() {
        if reads.load(Ordering::SeqCst) >= READS || reader.is_finished() {
            break;
        }
        process.kill().unwrap();
        process.wait().unwrap();
        let (requests, former) = (pod.requests(), std::fs::read_to_string(pod.file()).unwrap());
        process = pod.start();
        pod.reaches(moment, requests, &former).await;
        written += usize::from(moment == 4);
    }
    over.store(true, Ordering::SeqCst);
    process.kill().unwrap();
    process.wait().unwrap();
    reader.await.unwrap();
    assert!(
        written > MOMENTS.len() && pod.broker.issued() > written,
        "{written} files"
    );
}

/// What an application does that reads its token again and again.
async fn read(broker: FakeBroker, file: PathBuf, over: Arc<AtomicBool>, reads: Arc<AtomicU32>) {
    while !over.load(Ordering::SeqCst) {
        let read = reads.fetch_add(1, Ordering::SeqCst);
        let token = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("read {read}: {error}"));
        assert!(broker.stands(&token), "read {read} is no token that stands: {token:?}");
        sleep(Duration::from_secs(1) / RATE).await;
    }
}
