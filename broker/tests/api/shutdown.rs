//! Signals: the end, and the log level.

use agentwrit_testkit::{ADMIN_SECRET, Process};
use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;

#[test]
fn a_signal_ends_it_after_the_requests_in_flight() {
    for (signal, name) in [(Signal::TERM, "terminated"), (Signal::INT, "interrupt")] {
        let folder = tempfile::tempdir().unwrap();
        let mut process = crate::PROGRAM.start(folder.path(), &[("AA_LOG_LEVEL", "trace")]);
        let body = "{\"token\":\"x\"}";
        let mut busy = TcpStream::connect(process.address).unwrap();
        let head = format!(
            "POST /v1/token/validate HTTP/1.1\r\nhost: b\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        busy.write_all(head.as_bytes()).unwrap();
        busy.write_all(&body.as_bytes()[..4]).unwrap();
        let mut idle = TcpStream::connect(process.address).unwrap();
        idle.write_all(b"GET /v1/health HTTP/1.1\r\nhost: b\r\nx-request-id: one\r\n\r\n")
            .unwrap();
        // Both connections are there: this one came last.
        process.line_with("request_id=one");
        process.signal(signal);
        process.line_with(&format!("Shutting down gracefully (signal: {name})"));
        let mut rest = Vec::new();
        idle.read_to_end(&mut rest).unwrap();
        assert!(
            rest.starts_with(b"HTTP/1.1 200 "),
            "an idle connection is closed: {rest:?}"
        );
        assert!(TcpStream::connect(process.address).is_err(), "nobody new is let in");
        busy.write_all(&body.as_bytes()[4..]).unwrap();
        let mut answer = String::new();
        busy.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"valid\":false"),
            "{answer}"
        );
        let (code, out, err) = process.end();
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(
            out.contains("path=/v1/token/validate, status=200"),
            "the last lines are written: {out}"
        );
        assert!(!folder.path().join("data.db-wal").exists(), "the store was closed");
    }
}

#[test]
fn the_log_level_changes_with_the_config_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    std::fs::write(&path, "MODE=production\nLOG_LEVEL=standard\n").unwrap();
    let settings = [
        ("AA_ADMIN_SECRET", ADMIN_SECRET),
        ("AA_PORT", "0"),
        ("AA_LOG_FORMAT", "json"),
        ("AA_CONFIG_PATH", "config"),
    ];
    let mut process = Process::start(crate::PROGRAM.command(folder.path()).envs(settings));
    let change = |process: &Process, word: &str| {
        std::fs::write(&path, format!("LOG_LEVEL={word}\n")).unwrap();
        process.signal(Signal::HUP);
    };
    let changed = |process: &mut Process| -> serde_json::Value {
        serde_json::from_str(&process.line_with("log level changed")).unwrap()
    };
    change(&process, "trace");
    let line = changed(&mut process);
    assert_eq!(
        (&line["from"], &line["to"], &line["level"]),
        (&"verbose".into(), &"trace".into(), &"OK".into())
    );
    drop(TcpStream::connect(process.address).unwrap());
    let ask = |process: &Process, id: &str| {
        let mut stream = TcpStream::connect(process.address).unwrap();
        let request = format!("GET /livez HTTP/1.1\r\nhost: b\r\nconnection: close\r\nx-request-id: {id}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream.read_to_string(&mut String::new()).unwrap();
    };
    ask(&process, "probe-1");
    for message in ["request begins", "request"] {
        let line: serde_json::Value = serde_json::from_str(&process.line_with("probe-1")).unwrap();
        assert_eq!((&line["level"], &line["message"]), (&"TRACE".into(), &message.into()));
    }
    change(&process, "quiet");
    assert_eq!(changed(&mut process)["to"], "quiet");
    ask(&process, "probe-2");
    std::fs::write(&path, b"LOG_LEVEL=trace\n\xff").unwrap();
    process.signal(Signal::HUP);
    change(&process, "standard");
    assert_eq!(changed(&mut process)["from"], "quiet", "a broken file changes nothing");
    process.signal(Signal::TERM);
    let (code, out, _) = process.end();
    assert_eq!(code, Some(0));
    assert!(!out.contains("probe-2"), "{out}");
}
