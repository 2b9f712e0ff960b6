//! A full disk: as a limit on the size of the program's files that the test moves, and as a small file system.

use agentwrit_testkit::{ADMIN_SECRET, Answer, Process, claims};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Resource, Rlimit, Signal, prlimit};
use serde_json::{Value, json};

fn limit_files(process: &Process, bytes: Option<u64>) {
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(Some(process.pid()), Resource::Fsize, limit).unwrap();
}

#[test]
fn on_a_full_disk_it_is_unready_until_there_is_room_again() {
    let folder = tempfile::tempdir().unwrap();
    // A write over the limit then fails instead of ending the program.
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "trap '' XFSZ; exec \"$0\"",
            env!("CARGO_BIN_EXE_agentwrit-broker"),
        ])
        .current_dir(folder.path())
        .envs([
            ("AA_ADMIN_SECRET", ADMIN_SECRET),
            ("AA_PORT", "0"),
            ("AA_STORE_REQUIRED", "true"),
        ]);
    let process = Process::start(&mut command);
    let login = json!({"secret": ADMIN_SECRET}).to_string();
    let admin = &process.ask("POST /v1/admin/auth", "", &login).member("access_token");
    let body = json!({"agent_name": "a", "allowed_scope": ["read:data:*"]}).to_string();
    let launch = || process.ask("POST /v1/admin/launch-tokens", admin, &body).status;
    let size = |name: &str| std::fs::metadata(folder.path().join(name)).map_or(0, |file| file.len());
    limit_files(&process, Some(size("data.db").max(size("data.db-wal")) + 20_000));
    let ready = || process.ask("GET /readyz", "", "");
    let mut made = 0;
    // At first the log of the store is emptied into the file and there is room again; then there is none.
    loop {
        match launch() {
            201 => made += 1,
            503 if ready().status == 503 => break,
            other => assert_eq!(other, 503),
        }
        assert!(made < 10_000, "the limit is never reached");
    }
    for _ in 0..3 {
        let Answer { status, text, .. } = ready();
        assert!(status == 503 && text.contains("\"dependency\":\"store\""), "{text}");
        assert_eq!(launch(), 503);
    }
    assert_eq!(
        process.ask("GET /livez", "", "").status,
        200,
        "a restart would not help"
    );
    assert_eq!(process.ask("GET /v1/challenge", "", "").status, 503);
    limit_files(&process, None);
    // It tries again each second.
    while ready().status != 200 {}
    assert_eq!(launch(), 201);
    let line = "GET /v1/audit/events?event_type=launch_token_issued&limit=1";
    let events = process.ask(line, admin, "").json();
    assert_eq!(
        events["total"],
        made + 1,
        "what was refused left nothing, what was done is there"
    );
    process.signal(Signal::TERM);
    let (code, out, err) = process.end();
    assert_eq!(code, Some(0));
    let told = err
        .lines()
        .filter(|line| line.contains(" | InitDB | the store can't be used; it is tried each second | "));
    let told: Vec<&str> = told.collect();
    assert!(told.first().is_some_and(|line| line.contains("failures=1")), "{err}");
    let back = out
        .lines()
        .filter_map(|line| line.split_once(" | InitDB | store open again | failures="));
    let failures: usize = back.map(|(_, failures)| failures.parse::<usize>().unwrap()).sum();
    // The probe, the opening anew, and each of the seconds.
    assert!(failures >= 2 && told.len() < failures, "{failures}: {err}");
}

/// A file system of 64 MiB in a mount namespace of its own, which is there until the value goes.
struct SmallDisk {
    holder: Child,
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        // It ends with its standard input.
        let script = "mount -t tmpfs -o size=64m,mode=700 tmpfs \"$0\" && echo mounted && exec cat";
        let mut holder = command
            .args(["--mount", "sh", "-c", script])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "mounted\n", "unshare(1) and mount(8) are needed");
        Self { holder, folder }
    }

    /// The folder as this process sees it.
    fn seen(&self) -> PathBuf {
        let path = self.folder.path().strip_prefix("/").unwrap();
        Path::new(&format!("/proc/{}/root", self.holder.id())).join(path)
    }

    /// A broker with its store there and its key elsewhere.
    fn broker(&self, key: &Path) -> Process {
        let mut command = Command::new("nsenter");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        let store = self.folder.path().join("data.db");
        command
            .args(["--target", &self.holder.id().to_string(), "--mount", "--"])
            .arg(env!("CARGO_BIN_EXE_agentwrit-broker"))
            .current_dir(key)
            .env("AA_DB_PATH", store)
            .envs([
                ("AA_ADMIN_SECRET", ADMIN_SECRET),
                ("AA_PORT", "0"),
                ("AA_STORE_REQUIRED", "true"),
            ]);
        Process::start(&mut command)
    }

    /// Takes what is left.
    fn fill(&self) {
        let mut filler = File::options()
            .create(true)
            .append(true)
            .open(self.seen().join("filler"))
            .unwrap();
        for size in [1 << 20, 4096] {
            let bytes = vec![b'x'; size];
            while filler.write_all(&bytes).is_ok() {}
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.holder.kill().ok();
        self.holder.wait().ok();
    }
}

/// An admin's token ends a token by its id.
fn revoke(process: &Process, person: &str, token: &str) -> u16 {
    let body = json!({"level": "token", "target": claims(token)["jti"]}).to_string();
    process.ask("POST /v1/revoke", person, &body).status
}

fn ready(process: &Process) -> (u16, Value) {
    let reply = process.ask("GET /readyz", "", "");
    (reply.status, reply.json())
}

fn is_valid(process: &Process, token: &str) -> bool {
    let body = json!({"token": token}).to_string();
    process.ask("POST /v1/token/validate", "", &body).json()["valid"] == true
}

#[test]
fn a_full_disk_still_takes_what_ends_authority() {
    let (disk, key) = (SmallDisk::new(), tempfile::tempdir().unwrap());
    let process = disk.broker(key.path());
    let tokens: Vec<String> = (0..3).map(|_| process.admin()).collect();
    while ready(&process).1["disk"]["reserve_bytes"] != 8 << 20 {}
    let launch = |process: &Process, token: &str| {
        let body = json!({"agent_name": "a", "allowed_scope": ["read:data:*"]}).to_string();
        process.ask("POST /v1/admin/launch-tokens", token, &body).status
    };
    let person = process.admin();
    assert_eq!(launch(&process, &person), 201);
    disk.fill();
    while ready(&process).1["status"] != "degraded" {}
    let (status, answer) = ready(&process);
    assert_eq!(
        (status, &answer["failing"][0]["reason"]),
        (200, &json!("disk_full")),
        "{answer}"
    );
    // Something else takes each byte that the broker leaves.
    let mut revoked = 0;
    for token in &tokens {
        disk.fill();
        assert_eq!(launch(&process, &person), 503);
        let person = process.admin();
        assert_eq!(revoke(&process, &person, token), 200, "{revoked}");
        revoked += 1;
    }
    process.signal(Signal::KILL);
    let (_, out, err) = process.end();
    let given_up = format!("{out}{err}").contains("a part of the reserve is given up");
    assert!(given_up, "the disk was not full: {err}");
    let process = disk.broker(key.path());
    assert!(
        tokens.iter().all(|token| !is_valid(&process, token)),
        "{revoked} were revoked"
    );
    assert!(is_valid(&process, &person));
    assert_eq!(launch(&process, &person), 503);
    disk.fill();
    let other = process.admin();
    assert_eq!(revoke(&process, &other, &person), 200);
    assert!(!is_valid(&process, &person));
    let person = other;
    std::fs::remove_file(disk.seen().join("filler")).unwrap();
    while ready(&process).1["status"] != "ready" {}
    assert_eq!(launch(&process, &person), 201);
    assert_eq!(ready(&process).1["disk"]["reserve_bytes"], 8 << 20);
}
