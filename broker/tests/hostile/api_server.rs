//! As much of a Kubernetes API server as the program asks: `TokenReview`, and one pod.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

pub const AUDIENCE: &str = "agentwrit://hostile/agentwrit";
pub const CONTROLLER: &str = "system:serviceaccount:agentwrit-system:agentwrit-controller";
pub const POD: &str = "7f2c8c1e-0b7d-4f3a-9a55-2f1d0c6b8e90";

/// A `ServiceAccount` token that says what its review will be, signed with a word.
pub fn token(username: &str, signature: &str) -> String {
    let claims = json!({"aud": [AUDIENCE], "exp": 4_000_000_000_i64, "sub": username});
    format!("e30.{}.{signature}", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// Runs until the test program ends.
pub struct ApiServer(SocketAddr);

impl ApiServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap());
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

fn answer(stream: TcpStream) {
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
        review(&serde_json::from_slice(&body).unwrap())
    } else {
        pod()
    }
    .to_string();
    let length = body.len();
    let reply = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    reader.into_inner().write_all(reply.as_bytes()).unwrap();
}

fn review(request: &Value) -> Value {
    let payload = request["spec"]["token"].as_str().unwrap().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    let mut answer = request.clone();
    answer["status"] = json!({
        "authenticated": claims["sub"] != "nobody", "audiences": [AUDIENCE],
        "user": {"username": claims["sub"], "extra": {
            "authentication.kubernetes.io/pod-name": ["reader-1"],
            "authentication.kubernetes.io/pod-uid": [POD],
        }},
    });
    answer
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "shop", "name": "reader-1", "uid": POD},
        "spec": {"serviceAccountName": "reader", "containers": [], "initContainers": [{
            "name": "agentwrit-sidecar", "restartPolicy": "Always",
            "env": [{"name": "AGENTWRIT_LAUNCH_TOKEN", "value": "reader"}],
        }]},
        "status": {"phase": "Running"},
    })
}
