//! A Kubernetes API server for a child process: as much of it as attestation asks for, over plain HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use serde_json::{Value, json};

use crate::fake_cluster::{AUDIENCE, Pod, review};

/// Knows one pod; runs until the test program ends.
pub struct ApiServer(SocketAddr);

impl ApiServer {
    pub fn start(pod: Pod) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &pod);
            }
        });
        Self(address)
    }

    pub fn write_kubeconfig(&self, path: &Path) {
        let named = |kind: &str, content: Value| json!([{"name": "it", kind: content}]);
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": named("cluster", json!({"server": format!("http://{}", self.0)})),
            "users": named("user", json!({})),
            "contexts": named("context", json!({"cluster": "it", "user": "it"})),
        });
        // JSON is YAML.
        std::fs::write(path, config.to_string()).unwrap();
    }
}

fn answer(stream: TcpStream, pod: &Pod) {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if reader.read_until(b'\n', &mut head).unwrap() == 0 {
            return;
        }
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .to_ascii_lowercase()
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let body = if head.starts_with("POST ") {
        token_review(serde_json::from_slice(&body).unwrap())
    } else {
        manifest(pod)
    }
    .to_string();
    let length = body.len();
    let reply = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    reader.into_inner().write_all(reply.as_bytes()).unwrap();
}

fn token_review(mut request: Value) -> Value {
    let review = review(request["spec"]["token"].as_str().unwrap(), AUDIENCE);
    let listed = |text: Option<String>| text.into_iter().collect::<Vec<_>>();
    request["status"] = json!({
        "authenticated": review.authenticated, "audiences": review.audiences,
        "user": {"username": review.username, "extra": {
            "authentication.kubernetes.io/pod-name": listed(review.pod_name),
            "authentication.kubernetes.io/pod-uid": listed(review.pod_uid),
        }},
    });
    request
}

fn manifest(pod: &Pod) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": pod.namespace, "name": pod.name, "uid": pod.uid},
        "spec": {"serviceAccountName": pod.service_account, "containers": [], "initContainers": [{
            "name": "agentwrit-sidecar", "restartPolicy": "Always",
            "env": [{"name": "AGENTWRIT_LAUNCH_TOKEN", "value": pod.policy}],
        }]},
        "status": {"phase": "Running"},
    })
}
