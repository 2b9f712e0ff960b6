//! The programs under test: a broker and a controller on this machine, against the API server of `KUBECONFIG`.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use agentwrit_protocol::k8s::PolicyListResponse;
use agentwrit_testkit::load::http::{Connection, request};
use agentwrit_testkit::load::process::{Broker, Settings, free_address};

use crate::cluster::{AUDIENCE, SYSTEM, controller_subject};
use crate::{Options, Result};

/// The broker, and how to start it again.
pub(crate) struct Brokers {
    settings: Settings,
    running: Broker,
    /// Its ops listener.
    pub(crate) ops: SocketAddr,
    /// The controller's token.
    controller: String,
}

fn kubeconfig() -> Result<String> {
    let path = std::env::var("KUBECONFIG").map_err(|_| "KUBECONFIG is not set: run scripts/bench-scale.sh")?;
    Ok(std::path::absolute(path)?.display().to_string())
}

impl Brokers {
    /// Starts one on a new store.
    pub(crate) async fn start(options: &Options, controller: String) -> Result<Self> {
        let ops = free_address()?;
        let settings = Settings {
            program: options.broker.clone(),
            folder: options.folder.join("broker"),
            cores: None,
            environment: vec![
                ("KUBECONFIG", kubeconfig()?),
                ("AA_ATTEST_AUDIENCE", AUDIENCE.to_owned()),
                ("AA_CONTROLLER_SUBJECT", controller_subject()),
                ("AA_STORE_REQUIRED", "true".to_owned()),
                ("AA_OPS_ADDRESS", ops.to_string()),
            ],
            arguments: vec![],
        };
        let running = Broker::start(&settings).await?;
        Ok(Self {
            settings,
            running,
            ops,
            controller,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// Kills it, and starts one without a store in its place.
    pub(crate) async fn lose_store(&mut self) -> Result<()> {
        let address = self.running.address;
        self.running.kill()?;
        fs::remove_dir_all(&self.settings.folder)?;
        self.running = Broker::start_at(&self.settings, address).await?;
        Ok(())
    }

    /// A request as the controller's ServiceAccount; the answer's body.
    pub(crate) async fn as_controller(&self, method: &str, path: &str, body: &str) -> Result<Vec<u8>> {
        let mut connection = Connection::open(self.address()).await?;
        let answer = connection.send(&request(method, path, &self.controller, body)).await?;
        if answer.status != 200 {
            return Err(answer.unexpected("a request as the controller").into());
        }
        Ok(answer.body.to_vec())
    }

    /// All that it holds.
    pub(crate) async fn list(&self) -> Result<PolicyListResponse> {
        Ok(serde_json::from_slice(
            &self.as_controller("GET", "/v1/k8s/policies", "").await?,
        )?)
    }

    pub(crate) fn resident_kib(&self) -> Result<u64> {
        Ok(self.running.resident_kib()?)
    }
}

/// The controller; killed when dropped.
pub(crate) struct Controller {
    child: Child,
    /// Its ops listener.
    pub(crate) ops: SocketAddr,
}

impl Controller {
    /// Starts it; it leads as soon as it has the Lease.
    pub(crate) fn start(options: &Options, broker: SocketAddr, token: &str) -> Result<Self> {
        let ops = free_address()?;
        fs::create_dir_all(&options.folder)?;
        let token_file = options.folder.join("controller-token");
        fs::write(&token_file, token)?;
        let log = File::create(options.folder.join("controller.log"))?;
        let child = Command::new(absolute(&options.controller)?)
            .env_clear()
            .env("KUBECONFIG", kubeconfig()?)
            .env("HOME", &options.folder)
            .args([
                "--namespace",
                SYSTEM,
                "--pod-name",
                "controller-0",
                "--attest-audience",
                AUDIENCE,
            ])
            .args([
                "--broker-url",
                &format!("http://{broker}"),
                "--sidecar-image",
                "agentwrit-sidecar",
            ])
            .args([
                "--webhook-address",
                "127.0.0.1:0",
                "--webhook-names",
                "127.0.0.1",
                "--ops-address",
                &ops.to_string(),
            ])
            .arg("--identity-token-file")
            .arg(absolute(&token_file)?)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self { child, ops })
    }

    /// Resident memory now and at its highest, KiB.
    pub(crate) fn resident_kib(&self) -> Result<(u64, u64)> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let number = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let digits = line.and_then(|line| line.split_whitespace().next());
            digits.and_then(|digits| digits.parse().ok()).unwrap_or_default()
        };
        Ok((number("VmRSS:"), number("VmHWM:")))
    }

    /// Seconds of CPU so far.
    pub(crate) fn cpu(&self) -> Result<f64> {
        let usage = agentwrit_testkit::load::process::usage(&self.child.id().to_string())?;
        Ok(usage.cpu.as_secs_f64())
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    Ok(std::path::absolute(path)?)
}

impl Drop for Controller {
    fn drop(&mut self) {
        // Gone already, mostly.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
