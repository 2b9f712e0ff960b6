//! The program with apps, as it is installed: real bcrypt, logs that tell everything that they ever tell.

use agentwrit_testkit::{Answer, send_over};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tokio::net::TcpStream;

const SECRET: &str = "a-good-admin-secret";

struct Program {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
    /// Its standard output, once it has ended.
    output: JoinHandle<String>,
}

impl Program {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_agentwrit-broker"))
            .env_clear()
            .current_dir(folder.path())
            .envs([("AA_ADMIN_SECRET", SECRET), ("AA_PORT", "0"), ("AA_LOG_LEVEL", "trace")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(folder.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let address = lines
            .by_ref()
            .find_map(|line| line.split_once("v2.0.0 listening on ")?.1.parse().ok())
            .unwrap();
        let output = std::thread::spawn(move || lines.collect::<Vec<_>>().join("\n"));
        Self {
            child,
            address,
            folder,
            output,
        }
    }

    async fn send(&self, method: &str, path: &str, bearer: &str, body: &Value) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let authorization = format!("Bearer {bearer}");
        send_over(
            stream,
            method,
            path,
            &[("authorization", &authorization)],
            body.to_string(),
        )
        .await
    }

    /// Ends it and gives back all that it wrote: its files, its errors, its output.
    fn stop(mut self) -> Vec<(String, Vec<u8>)> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let files = std::fs::read_dir(self.folder.path()).unwrap();
        let mut written: Vec<_> = files
            .map(|entry| {
                let path = entry.unwrap().path();
                (path.display().to_string(), std::fs::read(&path).unwrap())
            })
            .collect();
        written.push(("stdout".to_owned(), self.output.join().unwrap().into_bytes()));
        written
    }
}

#[tokio::test]
async fn neither_log_nor_disk_ever_holds_a_secret_or_a_token() {
    let program = Program::start();
    let admin = program
        .send("POST", "/v1/admin/auth", "", &json!({"secret": SECRET}))
        .await
        .ok();
    let admin = admin["access_token"].as_str().unwrap();
    let registration = json!({"name": "shop", "scopes": ["read:data:*"]});
    let app = program.send("POST", "/v1/admin/apps", admin, &registration).await.ok();
    let (client, secret) = (&app["client_id"], app["client_secret"].as_str().unwrap());
    let right = json!({"client_id": client, "client_secret": secret});
    let token = program.send("POST", "/v1/app/auth", "", &right).await.ok();
    let token = token["access_token"].as_str().unwrap();
    // Where people put secrets by mistake.
    let misplaced = [
        json!({"client_id": secret, "client_secret": secret}),
        json!({"client_id": client, "client_secret": format!("{secret} ")}),
        json!({"client_id": {"secret": secret}}),
    ];
    for body in &misplaced {
        let status = program.send("POST", "/v1/app/auth", "", body).await.status;
        assert!(matches!(status, 400 | 401), "{status}");
    }
    let launch = json!({"agent_name": "a", "allowed_scope": ["read:data:x"]});
    let launched = program.send("POST", "/v1/app/launch-tokens", token, &launch).await.ok();
    let launch_token = launched["launch_token"].as_str().unwrap();
    let place = format!("/v1/admin/apps/{}", app["app_id"].as_str().unwrap());
    program.send("DELETE", &place, admin, &json!({})).await.ok();
    program
        .send("POST", "/v1/app/launch-tokens", token, &launch)
        .await
        .refused(403, "forbidden", "app not found");

    let written = program.stop();
    for (name, bytes) in &written {
        for hidden in [SECRET, secret, token, admin, launch_token] {
            let found = bytes.windows(hidden.len()).any(|window| window == hidden.as_bytes());
            assert!(!found, "{name} holds {hidden}");
        }
    }
    let holds = |end: &str, text: &str| {
        let found = written.iter().filter(|(name, _)| name.contains(end));
        let mut bytes = found.map(|(_, bytes)| bytes);
        bytes.any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    };
    assert!(holds("stdout", "/v1/app/auth"), "the log was on");
    assert!(
        holds("data.db", "$2b$12$"),
        "the store was there, and bcrypt at its real cost"
    );
}
