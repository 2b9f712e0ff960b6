//! Secrets with a mark in them, and every place where the mark must not be.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::process::Process;

const SECRET: &str = "c4n4ry-admin-secret-of-the-test";

fn ask(process: &Process, line: &str, token: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(process.address).unwrap();
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nhost: b\r\nconnection: close\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn no_secret_is_in_logs_store_metrics_trail_or_errors() {
    for format in ["text", "json"] {
        let folder = tempfile::tempdir().unwrap();
        let settings = [
            ("AA_ADMIN_SECRET", SECRET),
            ("AA_LOG_LEVEL", "trace"),
            ("AA_LOG_FORMAT", format),
        ];
        let process = Process::with(folder.path(), &settings);
        let parsed = |text: String| serde_json::from_str::<Value>(&text).unwrap();
        let login = parsed(ask(
            &process,
            "POST /v1/admin/auth",
            "",
            &json!({ "secret": SECRET }).to_string(),
        ));
        let admin = login["access_token"].as_str().unwrap().to_owned();
        let wish = json!({"agent_name": "a", "allowed_scope": ["read:data:*"]}).to_string();
        let launch = parsed(ask(&process, "POST /v1/admin/launch-tokens", &admin, &wish));
        let launch = launch["launch_token"].as_str().unwrap().to_owned();
        let key = std::fs::read_to_string(folder.path().join("signing.key")).unwrap();
        let key = key.lines().nth(1).unwrap().to_owned();
        let mut told = String::new();
        for path in [
            "/v1/admin/auth",
            "/v1/register",
            "/v1/token/renew",
            "/v1/token/release",
            "/v1/delegate",
            "/v1/revoke",
            "/v1/app/auth",
            "/v1/app/launch-tokens",
            "/v1/admin/launch-tokens",
            "/v1/nope",
        ] {
            for token in ["", "c4n4ry.c4n4ry.c4n4ry", &format!("{admin}x")] {
                let wrong = json!({
                    "secret": format!("{SECRET}-wrong"), "client_id": "x", "client_secret": "c4n4ry-client-secret",
                    "launch_token": launch, "nonce": "n", "public_key": "c4n4ry", "signature": "c4n4ry",
                    "orch_id": "o", "task_id": "t", "requested_scope": ["x:y:z"],
                });
                told += &ask(&process, &format!("POST {path}"), token, &wrong.to_string());
                told += &ask(
                    &process,
                    &format!("POST {path}"),
                    token,
                    &format!("{{\"secret\":\"{SECRET}\""),
                );
            }
        }
        told += &ask(&process, "GET /v1/audit/events?limit=1000", &admin, "");
        told += &ask(&process, "GET /v1/metrics", "", "");
        process.signal(Signal::TERM);
        let (code, out, err) = process.end();
        assert_eq!(code, Some(0));
        let store = std::fs::read(folder.path().join("data.db")).unwrap();
        let store = String::from_utf8_lossy(&store);
        for (place, text) in [
            ("answers", told.as_str()),
            ("stdout", &out),
            ("stderr", &err),
            ("store", &store),
        ] {
            for secret in ["c4n4ry", admin.as_str(), launch.as_str(), key.as_str()] {
                assert!(!text.contains(secret), "{format}: {place} holds {secret}");
            }
        }
        assert!(out.contains("/v1/register"), "the log was on");
    }
}
