//! What a signal leaves.

use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::refused::{broken_long_ago, change, refused, rows, store};
use super::{PROGRAM, moved, run, server};

/// Waits until a lock is held, or waited for: there is no event to wait for.
fn until(database: &str, condition: &str) {
    let sql = format!(
        "DO $$ BEGIN FOR i IN 1..1200 LOOP IF (SELECT {condition} FROM pg_locks WHERE database = (SELECT oid FROM pg_database \
         WHERE datname = '{database}') AND pid <> pg_backend_pid()) THEN RETURN; END IF; PERFORM pg_sleep(0.05); END LOOP; \
         RAISE EXCEPTION 'it never was so'; END $$"
    );
    server().sql(database, &sql).unwrap();
}

/// Runs it until all but the trail is in the database, and sends it a signal then.
fn held_up(folder: &Path, arguments: &[&str], database: &str, signal: Signal) -> Child {
    let holding = database.to_owned();
    let holder = std::thread::spawn(move || {
        let sql = "BEGIN; LOCK TABLE agentwrit.audit_events IN SHARE MODE; SELECT pg_sleep(600)";
        server().sql(&holding, sql)
    });
    until(database, "bool_or(mode = 'ShareLock' AND granted)");
    let child = PROGRAM
        .command(folder)
        .arg("migrate")
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until(database, "bool_or(NOT granted)");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE mode = 'ShareLock' AND granted \
               AND relation = 'agentwrit.audit_events'::regclass";
    server().sql(database, end).unwrap();
    holder.join().unwrap().unwrap_err();
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_ends_in_the_middle_is_made_again() {
    let (folder, broken) = (store(), broken_long_ago().await);
    let database = server().database();
    let url = server().url("owner", &database);
    let arguments = ["--from", "sqlite:data.db", "--to", &url];
    // It leaves the tables, and nothing in them.
    refused(broken.path(), &arguments, &[], &["audit chain is broken"]);
    assert_eq!(rows(&database), "0");

    for (signal, says) in [
        (Signal::KILL, ""),
        (Signal::TERM, "FATAL: stopped by a signal: nothing was moved\n"),
    ] {
        let child = held_up(folder.path(), &arguments, &database, signal);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1).filter(|_| signal == Signal::TERM));
        assert!(String::from_utf8(output.stderr).unwrap().ends_with(says));
        until(&database, "count(*) = 0");
        assert_eq!(rows(&database), "0");
    }

    let report = moved(folder.path(), &url);
    // As if it had been killed before the last step.
    change(folder.path(), "DELETE FROM meta WHERE key = 'moved_to'");
    let again = moved(folder.path(), &url);
    assert_eq!(
        (&again["moved_before"], &again["head"], &again["epoch"]),
        (&true.into(), &report["head"], &report["epoch"])
    );
    refused(folder.path(), &arguments, &[], &["was moved to", "already"]);
    // What another store would be moved to is not empty.
    let other = store();
    let (code, _, err) = run(other.path(), &arguments, &[]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("isn't empty"), "{err}");
}
