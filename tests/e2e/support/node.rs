//! What only the node can do: kill one container, as a crash would.

use std::path::{Path, PathBuf};

use crate::support::cluster::run;

/// Whether the node is this machine, so that containerd reaches what listens on 127.0.0.1. The nodes of kind are containers.
pub(crate) fn shares_the_loopback() -> bool {
    containerd_socket().exists()
}

fn containerd_socket() -> PathBuf {
    let kubeconfig = std::env::var("KUBECONFIG").unwrap();
    Path::new(&kubeconfig).with_file_name("run/containerd.sock")
}

/// Kills the main process of a container (`containerd://<id>`), without telling Kubernetes.
pub(crate) fn kill_container(id: &str) {
    let id = id.strip_prefix("containerd://").expect("a containerd id");
    let socket = containerd_socket();
    let kill = ["--namespace", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", id];
    let output = if socket.exists() {
        let socket = socket.display().to_string();
        run("ctr", &[&["--address", socket.as_str()], &kill[..]].concat())
    } else {
        run(
            "docker",
            &[&["exec", "agentwrit-test-control-plane", "ctr"], &kill[..]].concat(),
        )
    }
    .unwrap();
    assert!(
        output.status.success(),
        "the container could not be killed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
