//! Signals: the end, and the log level.

use agentwrit_testkit::{ADMIN_SECRET, Answer, Pending, Process, claims};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::process::Signal;
use serde_json::json;

const BODY: &str = "{\"token\":\"x\"}";

/// A request that is under way: the broker has its head and waits for the rest of its body.
fn half_sent(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = BODY.len();
    let head = format!("POST /v1/token/validate HTTP/1.1\r\nhost: b\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&BODY.as_bytes()[..4]).unwrap();
    stream
}

/// A connection that has had one answer and is kept open. Connections of before are known to the broker then.
fn kept(process: &mut Process) -> TcpStream {
    let mut stream = TcpStream::connect(process.address).unwrap();
    let request = b"GET /v1/health HTTP/1.1\r\nhost: b\r\nx-request-id: one\r\n\r\n";
    stream.write_all(request).unwrap();
    process.line_with("request_id=one");
    stream
}

fn to_its_end(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// An address that is free now.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn get(address: SocketAddr, path: &str) -> Answer {
    let mut pending = Pending::new(address, &format!("GET {path}"), "", "");
    pending.send();
    pending.answer()
}

#[test]
fn a_signal_ends_it_after_the_requests_in_flight() {
    for (signal, name) in [(Signal::TERM, "terminated"), (Signal::INT, "interrupt")] {
        let folder = tempfile::tempdir().unwrap();
        let mut process = crate::PROGRAM.start(folder.path(), &[("AA_LOG_LEVEL", "trace")]);
        let mut busy = half_sent(process.address);
        let mut idle = kept(&mut process);
        process.signal(signal);
        process.line_with(&format!("Shutting down gracefully (signal: {name})"));
        let rest = to_its_end(&mut idle);
        assert!(
            rest.starts_with("HTTP/1.1 200 "),
            "an idle connection is closed: {rest:?}"
        );
        assert!(TcpStream::connect(process.address).is_err(), "nobody new is let in");
        busy.write_all(&BODY.as_bytes()[4..]).unwrap();
        let answer = to_its_end(&mut busy);
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"valid\":false"),
            "{answer}"
        );
        // And closed, or this would still read: whether the answer announces it depends on which came first, the stop or the
        // rest of the body.
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
fn a_broker_that_drains_is_alive_and_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let ops = free_address();
    let address = ops.to_string();
    let settings = [("AA_LOG_LEVEL", "trace"), ("AA_OPS_ADDRESS", address.as_str())];
    let mut process = crate::PROGRAM.start(folder.path(), &settings);
    let ready = get(ops, "/readyz");
    assert_eq!(
        (ready.status, &ready.body["status"]),
        (200, &json!("ready")),
        "{ready:?}"
    );
    let mut busy = half_sent(process.address);
    let mut idle = kept(&mut process);
    process.signal(Signal::TERM);
    // From the end of this connection on the broker drains.
    to_its_end(&mut idle);
    let ready = get(ops, "/readyz");
    let failing = json!([{"dependency": "process", "reason": "stopping"}]);
    assert_eq!((ready.status, &ready.body["failing"]), (503, &failing), "{ready:?}");
    assert_eq!(get(ops, "/livez").status, 200);
    assert!(get(ops, "/metrics").text.contains("agentwrit_active_agents"));
    // A probe that hangs doesn't keep it from its end.
    let mut probe = TcpStream::connect(ops).unwrap();
    probe.write_all(b"GET /readyz HTTP/1.1\r\n").unwrap();
    busy.write_all(&BODY.as_bytes()[4..]).unwrap();
    assert!(to_its_end(&mut busy).starts_with("HTTP/1.1 200 "));
    let (code, _, err) = process.end();
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(TcpStream::connect(ops).is_err());
}

#[test]
fn a_second_signal_ends_a_drain_and_loses_nothing() {
    for (first, second, name) in [
        (Signal::TERM, Signal::TERM, "terminated"),
        (Signal::TERM, Signal::INT, "interrupt"),
        (Signal::INT, Signal::TERM, "terminated"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut process = crate::PROGRAM.start(folder.path(), &[("AA_LOG_LEVEL", "trace")]);
        let login = json!({"secret": ADMIN_SECRET}).to_string();
        let admin = process.ask("POST /v1/admin/auth", "", &login).member("access_token");
        let target = claims(&admin)["jti"].clone();
        let mut busy = half_sent(process.address);
        let mut idle = kept(&mut process);
        // The last thing that was answered: the token takes itself away.
        let revoke = json!({"level": "token", "target": target}).to_string();
        assert_eq!(process.ask("POST /v1/revoke", &admin, &revoke).status, 200);
        process.signal(first);
        to_its_end(&mut idle);
        process.line_with("Shutting down gracefully");
        process.signal(second);
        process.line_with(&format!("Ending at once (second signal: {name})"));
        // It would wait ten seconds for this one, and say so.
        let mut cut = Vec::new();
        busy.read_to_end(&mut cut).ok();
        assert!(cut.is_empty(), "{cut:?}");
        let (code, out, err) = process.end();
        assert_eq!(code, Some(1), "{out}{err}");
        assert!(
            err.starts_with("FATAL: a second signal ended it") && err.lines().count() == 1,
            "{err}"
        );
        assert!(!out.contains("still busy"), "{out}");
        let process = crate::PROGRAM.start(folder.path(), &[]);
        let answer = process.ask("POST /v1/token/validate", "", &json!({"token": admin}).to_string());
        assert_eq!(answer.body["valid"], false, "{answer:?}");
        assert_eq!(process.ask("POST /v1/admin/auth", "", &login).status, 200);
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
