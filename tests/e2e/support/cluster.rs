//! The cluster under test, and who may disturb it.

use std::process::{Command, Output};
use std::sync::Once;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Release namespace.
pub(crate) const SYSTEM: &str = "agentwrit-system";
/// Release.
pub(crate) const RELEASE: &str = "agentwrit";
/// Where the scripts are.
pub(crate) const REPO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Held for reading by tests that need the installation as it is, for writing by those that take part of it away.
static INSTALLATION: RwLock<()> = RwLock::const_new(());

/// The installation stays as it is while this is held.
pub(crate) async fn shared() -> RwLockReadGuard<'static, ()> {
    INSTALLATION.read().await
}

/// Nobody else needs the installation while this is held.
pub(crate) async fn alone() -> RwLockWriteGuard<'static, ()> {
    INSTALLATION.write().await
}

/// A client for this test's runtime.
pub(crate) async fn client() -> kube::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
    assert!(
        std::env::var_os("KUBECONFIG").is_some(),
        "KUBECONFIG is not set; run: scripts/test.sh e2e"
    );
    kube::Client::try_default().await.expect("the cluster answers")
}

/// kubectl's stdout.
pub(crate) fn kubectl(arguments: &[&str]) -> Result<String, String> {
    let output = run("kubectl", arguments)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!(
        "kubectl {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// Waits until a workload of the installation has rolled out.
pub(crate) fn rolled_out(workload: &str) -> Result<String, String> {
    kubectl(&["--namespace", SYSTEM, "rollout", "status", workload, "--timeout=90s"])
}

/// Runs a program to its end.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<Output, String> {
    Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}"))
}

/// Runs one of `scripts/`, and panics with its output when it fails.
pub(crate) fn script(name: &str, arguments: &[&str]) {
    let output = run(&format!("{REPO}/scripts/{name}"), arguments).unwrap();
    assert!(
        output.status.success(),
        "{name}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
