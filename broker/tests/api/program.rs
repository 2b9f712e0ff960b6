//! The program: command line, refusals to start, and the end.

use agentwrit_testkit::{ADMIN_SECRET, Process, claims, stores};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

#[test]
fn a_clock_behind_the_store_is_reported_and_can_be_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let start = |flags: &[&str]| {
        Process::start(
            crate::PROGRAM
                .command(folder.path())
                .args(flags)
                .envs([("AA_ADMIN_SECRET", ADMIN_SECRET), ("AA_PORT", "0")]),
        )
    };
    let says = |process: &Process, text: &str| process.start.iter().any(|line| line.contains(text));
    let nothing = "--accept-clock changes nothing";
    let process = start(&["--accept-clock"]);
    assert!(says(&process, nothing), "{:?}", process.start);
    drop(process);
    // As a broker leaves it that ran under a wrong date.
    let year_2100 = "INSERT INTO meta (key, value) VALUES ('high_water', '4102444800000') \
        ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    assert_eq!(stores::change(folder.path(), year_2100), 1);
    let process = start(&[]);
    let ready = process.ask("GET /readyz", "", "");
    assert!(
        ready.status == 503 && ready.text.contains("2100-01-01T00:00:00Z"),
        "{ready:?}"
    );
    process.signal(rustix::process::Signal::TERM);
    let (code, _, err) = process.end();
    let told = err
        .lines()
        .find(|line| line.contains(" | Clock | "))
        .unwrap_or_default();
    assert!(
        told.starts_with("[AA:BROKER:FAIL] ") && told.contains("2100-01-01T00:00:00Z"),
        "{err}"
    );
    assert_eq!(code, Some(0));
    let process = start(&["--accept-clock"]);
    assert!(says(&process, "a new epoch begins"), "{:?}", process.start);
    assert_eq!(process.ask("GET /readyz", "", "").status, 200);
    drop(process);
    let process = start(&["--accept-clock"]);
    assert!(says(&process, nothing), "{:?}", process.start);
    assert_eq!(process.ask("GET /readyz", "", "").status, 200);
}

#[test]
fn every_failure_of_the_configuration_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let output = crate::PROGRAM
        .command(folder.path())
        .envs([
            ("AA_ADMIN_SECRET", ""),
            ("AA_MAX_TTL", "-1"),
            ("AA_TLS_MODE", "maybe"),
            ("AA_TRUST_DOMAIN", "No!"),
        ])
        .envs([("AA_DEFAULT_TTL", "soon"), ("AA_ATTEST_AUDIENCE", "x")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.lines().all(|line| line.starts_with("FATAL: ")), "{text}");
    assert!(
        text.contains("FATAL: AA_ADMIN_SECRET must be set (non-empty)\n"),
        "{text}"
    );
    for name in [
        "AA_MAX_TTL",
        "AA_TLS_MODE",
        "AA_TRUST_DOMAIN",
        "AA_DEFAULT_TTL",
        "AA_CONTROLLER_SUBJECT",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
    assert!(!folder.path().join("signing.key").exists(), "nothing was made");
}

#[test]
fn a_reason_not_to_start_is_one_fatal_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.key"), "rubbish").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let good = ("AA_ADMIN_SECRET", "a-good-admin-secret");
    let table: [(&[(&str, &str)], &str); 6] = [
        (
            &[("AA_ADMIN_SECRET", "short")],
            "FATAL: admin secret rejected: does not meet security requirements",
        ),
        (
            &[good, ("AA_CONFIG_PATH", "/nope/config")],
            "FATAL: config file not found at path: /nope/config",
        ),
        (
            &[good, ("AA_SIGNING_KEY_PATH", "bad.key")],
            "FATAL: signing key: bad.key must be",
        ),
        (
            &[good, ("AA_SIGNING_KEY_REQUIRED", "true")],
            "FATAL: signing key: ./signing.key does not exist",
        ),
        (
            &[good, ("AA_TLS_MODE", "tls"), ("AA_TLS_CERT", "x"), ("AA_TLS_KEY", "y")],
            "FATAL: loading TLS certificate: x",
        ),
        (&[good, ("AA_PORT", &port)], "FATAL: listen on 127.0.0.1:"),
    ];
    for (settings, wanted) in table {
        let output = crate::PROGRAM
            .command(folder.path())
            .envs(settings.iter().copied())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.starts_with(wanted), "{wanted} in {text}");
    }
}

#[test]
fn a_store_of_another_installation_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let command = |flags: &[&str], name: &str| {
        let mut command = crate::PROGRAM.command(folder.path());
        command.args(flags).envs([
            ("AA_ADMIN_SECRET", ADMIN_SECRET),
            ("AA_PORT", "0"),
            ("AA_INSTALLATION", name),
        ]);
        command
    };
    drop(Process::start(&mut command(&[], "a/agentwrit")));
    // With a fallback to memory, as this program has it, or without.
    for required in ["false", "true"] {
        let mut other = command(&[], "b/agentwrit");
        let output = other.env("AA_STORE_REQUIRED", required).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let fatal = text
            .lines()
            .find(|line| line.starts_with("FATAL: "))
            .unwrap_or_default();
        for part in [
            "AA_INSTALLATION is \"b/agentwrit\"",
            "\"a/agentwrit\"",
            "--adopt-installation",
        ] {
            assert!(fatal.contains(part), "{part} in {text}");
        }
        assert_eq!(output.status.code(), Some(1), "{text}");
    }
    let process = Process::start(&mut command(&["--adopt-installation"], "b/agentwrit"));
    assert_eq!(process.ask("GET /readyz", "", "").status, 200);
    drop(process);
    drop(Process::start(&mut command(&[], "b/agentwrit")));
    let nothing = command(&["--adopt-installation"], "b/agentwrit")
        .env("AA_DB_PATH", "")
        .output()
        .unwrap();
    assert_eq!(nothing.status.code(), Some(1));
}

#[test]
fn it_says_what_it_is_and_how_to_set_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = |argument: &str| {
        let output = crate::PROGRAM.command(folder.path()).arg(argument).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(
        run("--version"),
        (Some(0), format!("agentwrit-broker {}\n", env!("CARGO_PKG_VERSION")))
    );
    let (code, text) = run("--help");
    assert_eq!(code, Some(0));
    for setting in agentwrit_broker::config::SETTINGS {
        assert!(text.contains(setting.name));
    }
    assert_eq!(run("--nonsense").0, Some(2));
}

#[test]
fn a_setting_that_is_no_text_is_not_absent() {
    let folder = tempfile::tempdir().unwrap();
    let output = crate::PROGRAM
        .command(folder.path())
        .env("AA_ADMIN_SECRET", "a-good-admin-secret")
        .env("AA_PORT", "none: it must not start")
        .env("AA_TLS_MODE", OsStr::from_bytes(b"tls\xff"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("AA_TLS_MODE"), "{text}");
}

#[test]
fn a_new_store_beside_an_old_key_waits_for_the_next_second() {
    let folder = tempfile::tempdir().unwrap();
    let issued = || {
        let mut child = crate::PROGRAM
            .command(folder.path())
            .envs([("AA_ADMIN_SECRET", "a-good-admin-secret"), ("AA_PORT", "0")])
            .envs([("AA_SEED_TOKENS", "true"), ("AA_DB_PATH", "")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let line = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap)
            .find(|line| line.starts_with("SEED_ADMIN_TOKEN="));
        child.kill().unwrap();
        child.wait().unwrap();
        claims(line.unwrap().trim_start_matches("SEED_ADMIN_TOKEN="))["iat"]
            .as_i64()
            .unwrap()
    };
    let first = issued();
    assert!(issued() > first, "or a revoked token of that second would stand again");
}
