//! A pod on paused time: its volume, its broker, and the processes of its sidecar.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::Clock;
use agentwrit_protocol::clock::SequenceEntropy;
use agentwrit_sidecar::{Config, Listeners, Log, Sink, StartError, run};
use parking_lot::Mutex;
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::fake_broker::FakeBroker;

/// A wall clock that follows the runtime's paused time.
struct RuntimeClock(Instant);

impl Clock for RuntimeClock {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap() + self.0.elapsed()
    }
}

#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl Sink for Lines {
    fn line(&self, line: &str) {
        self.0.lock().push(line.to_owned());
    }
}

pub(crate) struct Pod {
    pub(crate) broker: FakeBroker,
    clock: Arc<dyn Clock>,
    pub(crate) folder: TempDir,
    lines: Arc<Lines>,
}

/// One process of the sidecar.
pub(crate) struct Process {
    pub(crate) task: JoinHandle<Result<(), StartError>>,
    pub(crate) stop: Arc<Notify>,
    pub(crate) health: u16,
    endpoint: u16,
}

impl Pod {
    pub(crate) async fn new(life: i64) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(RuntimeClock(Instant::now()));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("identity"), "service-account-token\n").unwrap();
        Self {
            broker: FakeBroker::start(Arc::clone(&clock), life).await,
            clock,
            folder,
            lines: Arc::default(),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    pub(crate) fn token(&self) -> Option<String> {
        std::fs::read_to_string(self.file()).ok()
    }

    pub(crate) fn log(&self) -> String {
        self.lines.0.lock().join("\n")
    }

    pub(crate) fn start(&self) -> Process {
        let any = || "127.0.0.1:0".parse().unwrap();
        let config = Config {
            broker_url: format!("http://{}", self.broker.address),
            launch_token: "order-reader".to_owned(),
            scopes: Vec::new(),
            ttl: None,
            endpoint: Some(any()),
            health: any(),
            token_file: self.file(),
            token_file_gid: None,
            identity_file: self.folder.path().join("identity"),
            ca_file: self.folder.path().join("ca.crt"),
        };
        let listeners = Listeners::bind(&config).unwrap();
        let health = listeners.health.local_addr().unwrap().port();
        let endpoint = listeners.endpoint.as_ref().unwrap().local_addr().unwrap().port();
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let sink: Arc<dyn Sink> = self.lines.clone();
        let task = tokio::spawn(run(
            config,
            listeners,
            Arc::clone(&self.clock),
            Arc::new(SequenceEntropy::default()),
            Log::new(Arc::clone(&self.clock), sink),
            async move { stopped.notified().await },
        ));
        Process {
            task,
            stop,
            health,
            endpoint,
        }
    }

    /// A process whose token is in the file.
    pub(crate) async fn running(&self) -> Process {
        let process = self.start();
        within(5, async || self.token().is_some() && process.is_ready().await).await;
        process
    }

    /// No token, and nothing that a person would have to keep secret, is in the log.
    pub(crate) fn log_is_clean(&self) {
        let log = self.log();
        for secret in ["secretsignature", "hdr.", "c0ffee", "service-account-token"] {
            assert!(!log.contains(secret), "{log}");
        }
    }
}

impl Process {
    pub(crate) async fn probe(&self, path: &str) -> u16 {
        ask(self.health, path, "").await.0
    }

    pub(crate) async fn is_ready(&self) -> bool {
        self.probe("/ready").await == 200
    }

    pub(crate) async fn fetch(&self, headers: &str) -> (u16, String) {
        ask(self.endpoint, "/token", headers).await
    }

    /// As a container that is killed.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// A request without a client that could know better.
pub(crate) async fn ask(port: u16, path: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let body = text.split_once("\r\n\r\n").unwrap().1.to_owned();
    (status, body)
}

/// Waits, in the runtime's time, until `holds`; answers after how many seconds.
pub(crate) async fn within<F: Future<Output = bool>>(seconds: u64, holds: impl Fn() -> F) -> u64 {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(seconds), "not within {seconds} s");
        sleep(Duration::from_millis(50)).await;
    }
    start.elapsed().as_secs()
}
