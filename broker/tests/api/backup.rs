//! `agentwrit-broker backup`, and a start from what it made.

use agentwrit_testkit::{ADMIN_SECRET, Process};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

/// Code, standard output and standard error of `backup` with these arguments and settings.
fn run(folder: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = crate::PROGRAM
        .command(folder)
        .arg("backup")
        .args(arguments)
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn started(folder: &Path, flags: &[&str]) -> Process {
    Process::start(
        crate::PROGRAM
            .command(folder)
            .args(flags)
            .envs([("AA_ADMIN_SECRET", ADMIN_SECRET), ("AA_PORT", "0")]),
    )
}

/// Whether the process said so until it listened.
fn said(process: &Process, words: &str) -> bool {
    process.start.iter().any(|line| line.contains(words))
}

#[test]
fn a_running_broker_is_copied_and_says_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let process = started(folder.path(), &[]);
    process.agent();
    let last = process.events("limit=1000").pop().unwrap();
    let (code, out, err) = run(folder.path(), &["--json", "one.db"], &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let count = process.ask("GET /v1/health", "", "").body["audit_events_count"].clone();
    let copy = folder.path().join("one.db");
    let found = fs::metadata(&copy).unwrap();
    assert_eq!((&report["events"], &report["sequence"]), (&count, &count), "{report}");
    assert_eq!(
        (&report["file"], &report["bytes"]),
        (&json!("one.db"), &json!(found.len()))
    );
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    let sequence = format!("evt-{:06}", count.as_i64().unwrap());
    assert_eq!(last["id"], sequence, "{report}");
    assert_eq!(report["head"], last["hash"]);
    let mark = fs::read_to_string(folder.path().join("signing.key.mark")).unwrap();
    assert!(mark.contains(report["epoch"].as_str().unwrap()), "{mark}");
    assert!(report["seconds"].as_f64().unwrap() >= 0.0);
    let (code, out, err) = run(folder.path(), &["two.db"], &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let head = report["head"].as_str().unwrap();
    assert!(
        out.starts_with(&format!("two.db: {count} events")) && out.contains(head),
        "{out}"
    );
    process.signal(Signal::TERM);
    let (code, _, err) = process.end();
    assert_eq!((code, err.as_str()), (Some(0), ""));
    // One that doesn't run is copied as well.
    assert_eq!(run(folder.path(), &["three.db"], &[]).0, Some(0));
}

/// Arguments, settings, and what the line begins with.
type Row<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);

#[test]
fn a_backup_that_can_not_be_says_why_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = run(folder.path(), &["copy.db"], &[]);
    drop(started(folder.path(), &[]));
    fs::write(folder.path().join("other"), "x").unwrap();
    let here = folder.path().join("copy.db");
    let table: [Row<'_>; 7] = [
        (
            &["copy.db"],
            &[("AA_DB_PATH", "")],
            "AA_DB_PATH is empty: a store in memory",
        ),
        (
            &["copy.db"],
            &[("AA_DB_PATH", "other")],
            "other is no store of a broker",
        ),
        (
            &["copy.db"],
            &[("AA_DATABASE_URL", "postgres://u:hunter2@h/d?sslmode=disable")],
            "the store is a database on PostgreSQL, which its own tools copy",
        ),
        (&["other"], &[], "other is there already"),
        (&["./data.db"], &[], "./data.db is the store itself"),
        (&["none/copy.db"], &[], "there is no folder none"),
        (&["--", "--json/copy.db"], &[], "there is no folder --json"),
    ];
    let refused = table
        .into_iter()
        .map(|(arguments, settings, says)| (run(folder.path(), arguments, settings), says));
    for ((code, out, err), says) in refused.chain([(nothing, "there is no store ./data.db")]) {
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        assert!(
            err.starts_with(&format!("FATAL: {says}")) && err.lines().count() == 1,
            "{err}"
        );
        assert!(!err.contains("hunter2"));
        assert!(!here.exists(), "{says}");
    }
    for wrong in [&[][..], &["--overwrite", "copy.db"], &["copy.db", "more.db"]] {
        let (code, _, err) = run(folder.path(), wrong, &[]);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains("agentwrit-broker backup --help"), "{err}");
    }
    let (code, out, _) = run(folder.path(), &["--help"], &[]);
    assert!(code == Some(0) && out.contains("Examples:"), "{out}");
}

/// What nobody holds is copied, put back over a killed broker's store, and started.
fn restored(flags: &[&str], told_by: &str) {
    let folder = tempfile::tempdir().unwrap();
    let process = started(folder.path(), &[]);
    let (token, old_admin) = (process.agent(), process.admin());
    let (code, _, err) = run(folder.path(), &["copy.db"], &[]);
    assert_eq!(code, Some(0), "{err}");
    let later = process.agent();
    let before = process.events("limit=1000");
    let jti = agentwrit_testkit::claims(&token)["jti"].clone();
    let revoke = json!({"level": "token", "target": jti}).to_string();
    assert_eq!(process.ask("POST /v1/revoke", &process.admin(), &revoke).status, 200);
    // kill -9: what was committed since the start is in the WAL.
    drop(process);
    let file = |name: &str| folder.path().join(name);
    assert!(fs::metadata(file("data.db-wal")).unwrap().len() > 0);
    fs::rename(file("copy.db"), file("data.db")).unwrap();
    let process = started(folder.path(), flags);
    assert!(
        said(&process, "the WAL beside it was of another"),
        "{:?}",
        process.start
    );
    assert!(said(&process, told_by), "{:?}", process.start);
    for dead in [&token, &later, &old_admin] {
        assert!(!process.stands(dead));
    }
    let told = process.events("event_type=store_restored");
    assert_eq!(told.len(), 1, "{told:?}");
    let fresh = process.agent();
    assert!(process.stands(&fresh));
    // The trail goes on from the copy.
    let now = process.events("limit=1000");
    let at = now
        .iter()
        .position(|event| event["event_type"] == "store_restored")
        .unwrap();
    assert_eq!(now[..at], before[..at]);
    assert_eq!(now[at]["prev_hash"], before[at - 1]["hash"]);
    process.signal(Signal::TERM);
    assert_eq!(process.end().0, Some(0));
    let process = started(folder.path(), &[]);
    assert!(
        process.stands(&fresh) && !process.stands(&token),
        "it was for one start"
    );
    assert!(!said(&process, "rule="), "{:?}", process.start);
}

#[test]
fn a_copy_put_back_over_a_killed_brokers_store_is_noticed() {
    restored(&[], "rule=lower_sequence");
}

#[test]
fn a_copy_put_back_and_declared_begins_anew() {
    restored(&["--restored"], "rule=declared");
}
