//! A full disk, as a limit on the size of the program's files that the test moves.

use std::process::Command;

use rustix::process::{Resource, Rlimit, Signal, prlimit};
use serde_json::{Value, json};

use super::process::{GOOD, Process};

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
        .envs([GOOD, ("AA_PORT", "0"), ("AA_STORE_REQUIRED", "true")]);
    let process = Process::start(&mut command);
    let login = process
        .ask("POST /v1/admin/auth", "", &json!({"secret": GOOD.1}).to_string())
        .1;
    let login: Value = serde_json::from_str(&login).unwrap();
    let admin = login["access_token"].as_str().unwrap();
    let body = json!({"agent_name": "a", "allowed_scope": ["read:data:*"]}).to_string();
    let launch = || process.ask("POST /v1/admin/launch-tokens", admin, &body).0;
    let size = |name: &str| std::fs::metadata(folder.path().join(name)).map_or(0, |file| file.len());
    limit_files(&process, Some(size("data.db").max(size("data.db-wal")) + 20_000));
    let ready = || process.ask("GET /readyz", "", "");
    let mut made = 0;
    // At first the log of the store is emptied into the file and there is room again; then there is none.
    loop {
        match launch() {
            201 => made += 1,
            503 if ready().0 == 503 => break,
            other => assert_eq!(other, 503),
        }
        assert!(made < 10_000, "the limit is never reached");
    }
    for _ in 0..3 {
        let (status, text) = ready();
        assert!(status == 503 && text.contains("\"dependency\":\"store\""), "{text}");
        assert_eq!(launch(), 503);
    }
    assert_eq!(process.ask("GET /livez", "", "").0, 200, "a restart would not help");
    assert_eq!(process.ask("GET /v1/challenge", "", "").0, 503);
    limit_files(&process, None);
    // It tries again each second.
    while ready().0 != 200 {}
    assert_eq!(launch(), 201);
    let events = process
        .ask("GET /v1/audit/events?event_type=launch_token_issued&limit=1", admin, "")
        .1;
    let events: Value = serde_json::from_str(&events).unwrap();
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
