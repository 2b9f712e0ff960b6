//! What only the node can do: kill one container, as a crash would.

use std::path::Path;

use crate::cluster::run;

/// Kills the main process of a container (`containerd://<id>`), without telling Kubernetes.
pub(crate) fn kill_container(id: &str) {
    let id = id.strip_prefix("containerd://").expect("a containerd id");
    let kubeconfig = std::env::var("KUBECONFIG").unwrap();
    let socket = Path::new(&kubeconfig).with_file_name("run/containerd.sock");
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
