//! A controller as a process of its own: this test binary, asked for one test, with settings in its environment.
#![allow(clippy::print_stdout, reason = "it tells the test that started it")]

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agentwrit_controller::{Addresses, Config, System, run};
use agentwrit_protocol::Clock;
use agentwrit_protocol::system::{SystemClock, SystemEntropy};
use clap::Parser;
use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::clock;
use crate::world::{World, client, wait};

/// Its settings, a line each.
const SETTINGS: &str = "AGENTWRIT_TEST_REPLICA";
/// The only namespace whose custom resources it sees.
const NAMESPACE: &str = "AGENTWRIT_TEST_REPLICA_NAMESPACE";
/// Set for one whose time the test can set ahead.
const OWN_TIME: &str = "AGENTWRIT_TEST_REPLICA_OWN_TIME";
/// The name of its webhook configuration.
const CONFIGURATION: &str = "AGENTWRIT_TEST_REPLICA_CONFIGURATION";
/// A file with a part of the paths that it has no right to; none while there is no such file.
const FORBIDDEN: &str = "AGENTWRIT_TEST_REPLICA_FORBIDDEN";
const TEST: &str = "replicas::program::a_replica_without_settings_ends_and_names_one";
/// Before the addresses, on a line of standard output.
const LISTENS: &str = "listens on ";
/// Before method and path of a request that writes.
const WRITES: &str = "writes ";

/// Also what runs in the processes that the other tests start.
#[test]
fn a_replica_without_settings_ends_and_names_one() {
    if let Ok(settings) = std::env::var(SETTINGS) {
        serve(&settings);
    }
    let output = command("agentwrit-controller").output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("--namespace"), "{told}");
}

fn command(settings: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([TEST, "--exact", "--nocapture", "--test-threads=1"])
        .env(SETTINGS, settings)
        .stdin(Stdio::null());
    command
}

/// The controller, as `main.rs` runs it; its requests that write are told on standard output.
fn serve(settings: &str) -> ! {
    let config = Config::try_parse_from(settings.lines()).unwrap_or_else(|error| error.exit());
    let _ = tracing_subscriber::fmt()
        .with_env_filter("warn,agentwrit_controller=info")
        .with_writer(std::io::stderr)
        .try_init();
    if std::env::var_os(OWN_TIME).is_some() {
        clock::run(|clock| run_until_it_fails(config, clock));
    } else {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(run_until_it_fails(config, Arc::new(SystemClock)));
    }
    std::process::exit(1)
}

async fn run_until_it_fails(config: Config, clock: Arc<dyn Clock>) {
    let system = System {
        client: telling(client().await),
        clock,
        entropy: Arc::new(SystemEntropy),
    };
    let (listening, addresses) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let Addresses { webhook, ops } = addresses.await.unwrap();
        println!("\n{LISTENS}{webhook} {ops}");
    });
    run(config, system, listening, std::future::pending()).await.unwrap();
}

/// Tells of each request that writes, and keeps this controller apart from those of other tests: it sees the custom
/// resources and ConfigMaps of its namespace only, and has a webhook configuration of its own.
fn telling(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let variable = |name| std::env::var(name).unwrap_or_default();
    let (own, configuration) = (variable(NAMESPACE), variable(CONFIGURATION));
    let forbidden = std::path::PathBuf::from(variable(FORBIDDEN));
    let send = move |mut request: Request<Body>| {
        let client = client.clone();
        let uri = request.uri().to_string();
        let all = uri.replace(
            "/v1alpha1/agentapps?",
            &format!("/v1alpha1/namespaces/{own}/agentapps?"),
        );
        let all = all.replace(
            "/v1alpha1/launchtokens?",
            &format!("/v1alpha1/namespaces/{own}/launchtokens?"),
        );
        let all = all.replace("/api/v1/configmaps?", &format!("/api/v1/namespaces/{own}/configmaps?"));
        let all = all.replace(
            "configurations/agentwrit-injector",
            &format!("configurations/{configuration}"),
        );
        *request.uri_mut() = all.parse().unwrap();
        if *request.method() != Method::GET {
            println!("\n{WRITES}{} {}", request.method(), request.uri().path());
        }
        let forbids = std::fs::read_to_string(&forbidden).is_ok_and(|part| request.uri().path().contains(&part));
        async move {
            if forbids {
                let refusal = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden",
                    "code": 403, "message": "no right to this"});
                let body = Body::from(serde_json::to_vec(&refusal).unwrap());
                return Ok(http::Response::builder().status(403).body(body).unwrap());
            }
            client.send(request).await
        }
    };
    Client::new(tower::service_fn(send), namespace)
}

fn forbidden(release: &str, name: &str) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("agentwrit-test-{release}-{name}-forbidden"))
}

/// A running controller; killed when dropped.
pub struct Replica {
    child: tokio::process::Child,
    pub name: &'static str,
    release: String,
    pub webhook: SocketAddr,
    ops: SocketAddr,
    /// Method and path of each request that it was about to send, but reads.
    writes: Arc<Mutex<Vec<String>>>,
    taken: AtomicUsize,
}

impl Replica {
    pub async fn start(world: &World, name: &'static str, lease: &str) -> Self {
        Self::start_with(world, name, lease, &[]).await
    }

    /// The same, with further flags.
    pub async fn start_with(world: &World, name: &'static str, lease: &str, flags: &[&str]) -> Self {
        Self::spawn(world, name, lease, flags, &[]).await
    }

    /// One whose time can be set [`Replica::ahead`].
    pub async fn with_own_time(world: &World, name: &'static str, flags: &[&str]) -> Self {
        Self::spawn(world, name, super::LEASE, flags, &[(OWN_TIME, "1")]).await
    }

    async fn spawn(
        world: &World,
        name: &'static str,
        lease: &str,
        flags: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let token = std::env::temp_dir().join(format!("agentwrit-test-{}", world.release));
        std::fs::write(&token, "the-controllers-own-token").unwrap();
        let release = &world.release;
        let mut settings = vec![
            "agentwrit-controller".to_owned(),
            format!("--namespace={release}"),
            format!("--pod-name={name}"),
            format!("--broker-url=http://{}", world.broker_address),
            format!("--attest-audience=agentwrit://{release}/agentwrit"),
            "--sidecar-image=localhost/agentwrit-sidecar:dev".to_owned(),
            format!("--identity-token-file={}", token.display()),
            format!("--lease-duration={lease}"),
            "--webhook-names=127.0.0.1".to_owned(),
        ];
        for own in ["--webhook-address=", "--ops-address="] {
            if !flags.iter().any(|flag| flag.starts_with(own)) {
                settings.push(format!("{own}127.0.0.1:0"));
            }
        }
        settings.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let mut command = command(&settings.join("\n"));
        command.envs([
            (NAMESPACE, &world.namespace),
            (CONFIGURATION, &super::configuration(world)),
        ]);
        command.envs(environment.iter().copied()).stdin(Stdio::piped());
        command.env(FORBIDDEN, forbidden(&world.release, name));
        let mut command = tokio::process::Command::from(command);
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (webhook, ops) = loop {
            let line = lines.next_line().await.unwrap();
            let line = line.unwrap_or_else(|| panic!("replica {name} ended"));
            if let Some((webhook, ops)) = line.strip_prefix(LISTENS).and_then(|rest| rest.split_once(' ')) {
                break (webhook.parse().unwrap(), ops.parse().unwrap());
            }
        };
        let writes = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&writes);
        tokio::spawn(async move {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some(written) = line.strip_prefix(WRITES) {
                    seen.lock().push(written.to_owned());
                }
            }
        });
        Self {
            child,
            name,
            release: world.release.clone(),
            webhook,
            ops,
            writes,
            taken: AtomicUsize::new(0),
        }
    }

    /// From now on the API server says that it has no right to paths with this part.
    pub fn forbid(&self, part: &str) {
        std::fs::write(forbidden(&self.release, self.name), part).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Sets its time ahead; it goes on from there.
    pub async fn ahead(&mut self, seconds: u32) {
        let stdin = self.child.stdin.as_mut().expect("it has its own time");
        stdin.write_all(format!("{seconds}\n").as_bytes()).await.unwrap();
    }

    /// SIGKILL, and waits for the end.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// What it wrote since the last call, but for its Lease, and Events about itself.
    pub fn written(&self) -> Vec<String> {
        let all = self.writes.lock();
        let from = self.taken.swap(all.len(), Ordering::SeqCst);
        let own = format!("/namespaces/{}/", self.release);
        let is_own = |line: &String| line.contains(&own) && (line.contains("/leases/") || line.contains("/events"));
        let new = all[from..].iter().filter(|line| !is_own(line));
        new.cloned().collect()
    }

    pub async fn get(&self, path: &str) -> String {
        get(self.ops, path).await.unwrap()
    }

    /// The value of a metric, labels included in its name.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await;
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("agentwrit_controller_{name} ")));
        line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    pub async fn is_ready(&self) {
        wait(&format!("replica {} is ready", self.name), || async {
            self.get("/readyz").await.starts_with("HTTP/1.0 200").then_some(())
        })
        .await;
    }

    pub async fn leads(&self, wanted: bool) {
        wait(&format!("replica {} leads: {wanted}", self.name), || async {
            ((self.metric("leader").await > 0.5) == wanted).then_some(())
        })
        .await;
    }
}

/// The answer of an ops listener.
pub async fn get(ops: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(ops).await?;
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// Sends a process a signal, such as `STOP`.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(status.unwrap().success(), "kill -{name} {pid}");
}
