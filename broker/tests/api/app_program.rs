//! The program with apps, as it is installed: real bcrypt, logs that tell everything that they ever tell.

use agentwrit_testkit::{ADMIN_SECRET, Answer, Process, send_over, stores};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::TcpStream;

struct Program {
    process: Process,
    folder: tempfile::TempDir,
}

impl Program {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = crate::PROGRAM.start(folder.path(), &[("AA_LOG_LEVEL", "trace")]);
        Self { process, folder }
    }

    async fn send(&self, method: &str, path: &str, bearer: &str, body: &Value) -> Answer {
        let stream = TcpStream::connect(self.process.address).await.unwrap();
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
    fn stop(self) -> Vec<(String, Vec<u8>)> {
        self.process.signal(Signal::KILL);
        let (_, out, err) = self.process.end();
        let files = std::fs::read_dir(self.folder.path()).unwrap();
        let mut written: Vec<_> = files
            .map(|entry| {
                let path = entry.unwrap().path();
                (path.display().to_string(), std::fs::read(&path).unwrap())
            })
            .collect();
        written.push(("the store".to_owned(), stores::written(self.folder.path())));
        written.push(("stdout".to_owned(), out.into_bytes()));
        written.push(("stderr".to_owned(), err.into_bytes()));
        written
    }
}

#[tokio::test]
async fn neither_log_nor_disk_ever_holds_a_secret_or_a_token() {
    let program = Program::start();
    let admin = program
        .send("POST", "/v1/admin/auth", "", &json!({"secret": ADMIN_SECRET}))
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
        for hidden in [ADMIN_SECRET, secret, token, admin, launch_token] {
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
        holds("the store", "$2b$12$"),
        "the store was there, and bcrypt at its real cost"
    );
}
