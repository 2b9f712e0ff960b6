//! A Kubernetes API server for a child process: as much of it as attestation asks for, over plain HTTP.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::pod::{AUDIENCE, Pod, claims_of};

/// Pods by their path.
type Pods = Arc<HashMap<String, Pod>>;

/// Knows some pods; runs until the test program ends.
pub struct ApiServer(SocketAddr);

impl ApiServer {
    pub fn start(pods: impl IntoIterator<Item = Pod>) -> Self {
        let by_path = |pod: Pod| (format!("/api/v1/namespaces/{}/pods/{}", pod.namespace, pod.name), pod);
        let pods: Pods = Arc::new(pods.into_iter().map(by_path).collect());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, pods) = (stream.unwrap(), Arc::clone(&pods));
                std::thread::spawn(move || serve(stream, &pods));
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

/// Answers one request after the other, until the broker closes the connection or is killed.
fn serve(stream: TcpStream, pods: &Pods) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream);
    while let Some((line, body)) = request(&mut reader) {
        let (status, body) = answer(&line, &body, pods);
        let body = body.to_string();
        let length = body.len();
        let reply =
            format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
        if reader.get_mut().write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

/// The first line of the next request, and its body.
fn request(reader: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if reader.read_until(b'\n', &mut head).ok()? == 0 {
            return None;
        }
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .to_ascii_lowercase()
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some((head.lines().next().unwrap().to_owned(), body))
}

fn answer(line: &str, body: &[u8], pods: &Pods) -> (u16, Value) {
    let path = line.split(' ').nth(1).unwrap();
    if line.starts_with("POST ") {
        return (200, token_review(serde_json::from_slice(body).unwrap()));
    }
    match pods.get(path) {
        Some(pod) => (200, manifest(pod)),
        None => (
            404,
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}),
        ),
    }
}

fn token_review(mut request: Value) -> Value {
    let claims = claims_of(request["spec"]["token"].as_str().unwrap());
    let listed = |name: &str| claims[name].as_str().into_iter().collect::<Vec<_>>();
    let confirmed = claims["confirmed"].as_str().unwrap_or(AUDIENCE);
    request["status"] = if claims["sub"].is_string() && claims["forged"] != true {
        json!({
            "authenticated": true, "audiences": [confirmed],
            "user": {"username": claims["sub"], "extra": {
                "authentication.kubernetes.io/pod-name": listed("pod"),
                "authentication.kubernetes.io/pod-uid": listed("uid"),
            }},
        })
    } else {
        json!({"authenticated": false})
    };
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
