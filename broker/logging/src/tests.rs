//! What a test's events look like.

use std::io::Write;
use std::sync::Arc;

use agentwrit_protocol::clock::ManualClock;
use parking_lot::Mutex;
use prometheus::IntCounter;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use super::REQUEST_ID;
use super::layer::{Lines, Stamps};
use super::level::CurrentLevel;
use super::writer::Output;
use super::{LogFormat, LogLevel};

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Standard output and standard error of some events, and the level to change between them.
fn logged(level: LogLevel, format: LogFormat, events: impl FnOnce(&CurrentLevel)) -> (String, String) {
    let (out, err) = (Sink::default(), Sink::default());
    let output = |sink: &Sink| {
        let lost = IntCounter::new("lost", "lost").unwrap();
        Output::to(sink.clone(), lost, Box::new(|_| String::new())).unwrap()
    };
    let level = Arc::new(CurrentLevel::new(level));
    let (to_out, to_err) = (output(&out), output(&err));
    let lines = Lines {
        level: Arc::clone(&level),
        format,
        clock: Stamps::new(Arc::new(ManualClock::at(0))),
        out: to_out.clone(),
        err: to_err.clone(),
    };
    tracing::subscriber::with_default(Registry::default().with(lines), || events(&level));
    to_out.close();
    to_err.close();
    let text = |sink: Sink| String::from_utf8(sink.0.lock().clone()).unwrap();
    (text(out), text(err))
}

fn some_events() {
    tracing::error!(target: "STORE", component = "InitDB", error = "no\nspace", "store can't be opened");
    tracing::info!(target: "HTTP", component = "access", status = 200_u16, path = "/v1/health", "request");
    tracing::trace!(target: "HTTP", component = "Connection", "connection ended");
    tracing::info!("a crate's chatter");
}

#[test]
fn lines_have_the_contracts_form_and_go_to_its_streams() {
    let (out, err) = logged(LogLevel::Verbose, LogFormat::Text, |_| some_events());
    assert_eq!(
        err,
        "[AA:STORE:FAIL] 1970-01-01T00:00:00Z | InitDB | store can't be opened | error=no space\n"
    );
    assert_eq!(
        out,
        "[AA:HTTP:OK] 1970-01-01T00:00:00Z | access | request | status=200, path=/v1/health\n"
    );
    let (out, err) = logged(LogLevel::Quiet, LogFormat::Text, |_| some_events());
    assert_eq!((out.lines().count(), err.lines().count()), (0, 1));
    let (out, err) = logged(LogLevel::Trace, LogFormat::Text, |_| some_events());
    assert_eq!((out.lines().count(), err.lines().count()), (2, 1));
    assert!(out.contains("[AA:HTTP:TRACE] "), "{out}");
}

#[test]
fn json_lines_are_json() {
    let (out, err) = logged(LogLevel::Verbose, LogFormat::Json, |_| some_events());
    let line: serde_json::Value = serde_json::from_str(err.trim_end()).unwrap();
    let wanted = serde_json::json!({
        "time": "1970-01-01T00:00:00Z", "module": "STORE", "level": "FAIL", "component": "InitDB",
        "message": "store can't be opened", "error": "no\nspace",
    });
    assert_eq!(line, wanted);
    let line: serde_json::Value = serde_json::from_str(out.trim_end()).unwrap();
    assert_eq!((&line["status"], &line["path"]), (&200.into(), &"/v1/health".into()));
}

#[test]
fn every_line_of_a_request_has_its_id() {
    let events = || {
        REQUEST_ID.sync_scope("r-1".into(), || {
            tracing::warn!(target: "STORE", component = "Prune", count = 3, "nothing pruned");
            tracing::error!(target: "HTTP", component = "Entropy", "no randomness");
        });
        tracing::warn!(target: "STORE", component = "Prune", "outside");
    };
    let (out, err) = logged(LogLevel::Verbose, LogFormat::Text, |_| events());
    assert!(out.contains("| nothing pruned | count=3, request_id=r-1\n"), "{out}");
    assert!(err.ends_with("| Entropy | no randomness | request_id=r-1\n"), "{err}");
    assert!(out.ends_with("| outside\n"), "{out}");
    let (_, err) = logged(LogLevel::Quiet, LogFormat::Json, |_| events());
    assert!(
        err.contains(r#""request_id":"r-1""#),
        "also when only failures are written: {err}"
    );
}

#[test]
fn the_level_can_change() {
    let event = |message: &str| tracing::trace!(target: "HTTP", component = "c", "{message}");
    let (out, _) = logged(LogLevel::Verbose, LogFormat::Text, |level| {
        event("before");
        level.set(LogLevel::Trace);
        event("during");
        level.set(LogLevel::Quiet);
        event("after");
    });
    assert!(out.ends_with("| c | during\n") && out.lines().count() == 1, "{out}");
}

#[test]
fn text_from_outside_can_forge_no_line() {
    let (out, _) = logged(LogLevel::Verbose, LogFormat::Text, |_| {
        let path = "/a\r\n[AA:X:OK] \u{202e}b\u{2028}c\u{1b}[2J";
        tracing::info!(target: "HTTP", component = "access", path = %path, "request");
    });
    assert!(out.ends_with("| path=/a  [AA:X:OK]  b c [2J\n"), "{out}");
    assert_eq!(out.lines().count(), 1);
}

#[test]
fn a_panic_says_where_but_shows_no_formatted_text() {
    let token = "eyJsecret";
    let before = std::panic::take_hook();
    super::log_panics();
    let (_, err) = logged(LogLevel::Quiet, LogFormat::Text, |_| {
        REQUEST_ID.sync_scope("r-2".into(), || {
            assert!(std::panic::catch_unwind(|| panic!("a literal")).is_err());
            assert!(std::panic::catch_unwind(|| panic!("about {token}")).is_err());
        });
    });
    std::panic::set_hook(before);
    assert_eq!(err.matches("[AA:BROKER:FAIL] ").count(), 2, "{err}");
    assert!(
        err.contains("reason=a literal, request_id=r-2") && err.contains("reason=not shown"),
        "{err}"
    );
    assert!(err.contains("logging/src/tests.rs:") && !err.contains(token), "{err}");
}
