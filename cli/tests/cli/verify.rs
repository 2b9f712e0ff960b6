//! `awrit audit verify` and `awrit audit export`.

mod export;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use agentwrit_protocol::audit::{AuditEvent, EventType};
use agentwrit_protocol::clock::ManualClock;
use agentwrit_protocol::system::SystemClock;
use agentwrit_protocol::{Clock, ErrorCode, Problem};
use agentwrit_store::{EventDraft, EventFilter};
use agentwrit_testkit::Setup;

use super::brokers::{FakeBroker, RealBroker};
use super::support::{Ended, awrit};

/// A broker with a few events.
fn busy() -> RealBroker {
    let broker = RealBroker::new();
    for target in ["one", "two"] {
        assert_eq!(broker.awrit(&["revoke", "--level", "task", "--target", target]).code, 0);
    }
    broker
}

/// The keys of a broker, as a file in this folder.
fn jwks(broker: &RealBroker, folder: &Path) -> String {
    let keys = broker.ask(async |client| client.jwks().await.unwrap());
    let path = folder.join("jwks.json").display().to_string();
    std::fs::write(&path, serde_json::to_string(&keys).unwrap()).unwrap();
    path
}

fn broken(ended: &Ended, at: &str, problem: &str) {
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.out.starts_with("FIELD       VALUE\nVERDICT     broken\n"),
        "{ended:?}"
    );
    let error = format!("Error: the audit trail is broken at {at}: ");
    assert!(ended.err.contains(&error) && ended.err.contains(problem), "{ended:?}");
}

#[test]
fn a_brokers_trail_is_intact_and_grows_on_what_was_noted() {
    let broker = busy();
    let ended = broker.awrit(&["audit", "verify"]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
    assert!(
        ended
            .out
            .starts_with("FIELD       VALUE\nVERDICT     intact\nEVENTS      "),
        "{ended:?}"
    );
    let noted = broker.awrit(&["audit", "verify", "--json"]).json();
    assert_eq!(noted["first"], "evt-000001");
    let (count, head) = (noted["count"].to_string(), noted["head"].as_str().unwrap());
    let expecting = ["audit", "verify", "--expect-count", &count, "--expect-head", head];
    assert_eq!(broker.awrit(&expecting).code, 0);
    assert_eq!(
        broker
            .awrit(&["audit", "verify", "--from-checkpoint", "--expect-count", &count])
            .code,
        0
    );

    let longer = ["audit", "verify", "--expect-count", "1000"];
    let ended = broker.awrit(&longer);
    assert!(ended.err.contains("the end of the trail was cut off"), "{ended:?}");
    assert_eq!((ended.code, ended.err.matches("Error:").count()), (1, 1));
    let other = "0".repeat(64);
    broken(
        &broker.awrit(&["audit", "verify", "--expect-count", "2", "--expect-head", &other]),
        "evt-000002",
        "rewritten",
    );
    let ended = broker.awrit(&["audit", "verify", "--expect-count", "1000", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((ended.code, &json["intact"]), (1, &false.into()));
    assert!(
        json["broken"]["problem"].as_str().unwrap().contains("cut off"),
        "{json}"
    );
}

#[test]
fn checkpoints_are_checked_and_are_places_to_begin_at() {
    let broker = RealBroker::with(&[("AA_DB_PATH", "")]);
    let token = broker.admin_token();
    broker.ask(async |client| {
        for number in 0..1000 {
            client.revoke(&token, "task", &format!("task-{number}")).await.unwrap();
        }
    });
    let whole = broker.awrit(&["audit", "verify", "--json"]).json();
    assert_eq!(
        (&whole["first"], &whole["checkpoint"]),
        (&"evt-000001".into(), &"evt-001000".into())
    );
    assert!(
        whole["events"].as_i64().unwrap() > 1000 && whole["signatures_checked"] == true,
        "{whole}"
    );
    for from in [&["--from-checkpoint"][..], &["--from-checkpoint", "evt-001000"]] {
        let tail = broker.awrit(&[&["audit", "verify", "--json"], from].concat()).json();
        assert_eq!(
            (&tail["intact"], &tail["first"]),
            (&true.into(), &"evt-001000".into()),
            "{from:?}"
        );
    }
    broken(
        &broker.awrit(&["audit", "verify", "--from-checkpoint", "evt-000999"]),
        "evt-000999",
        "it is no audit_checkpoint",
    );
    // Keys of another broker, for a file that has no others.
    let path = broker.folder.path().join("events.jsonl").display().to_string();
    assert_eq!(broker.awrit(&["audit", "export", "--file", &path]).code, 0);
    let own = jwks(&broker, broker.folder.path());
    assert_eq!(
        awrit(&[], &["audit", "verify", "--file", &path, "--jwks", &own]).code,
        0
    );
    let others = jwks(&RealBroker::new(), broker.folder.path());
    for from in [&[][..], &["--from-checkpoint"]] {
        let verify = [&["audit", "verify", "--file", &path, "--jwks", &others], from].concat();
        broken(&awrit(&[], &verify), "evt-001000", "which isn't known");
    }
    assert_eq!(
        broker.awrit(&["audit", "verify", "--jwks", &others]).code,
        0,
        "beside its own"
    );
    let ended = broker.awrit(&["doctor"]);
    assert!(
        ended.code == 0 && ended.out.contains("intact from evt-001000 to evt-0010"),
        "{ended:?}"
    );
}

#[test]
fn a_broker_that_counts_more_than_it_shows_is_found_out() {
    let broker = FakeBroker::plain(|call, _, _| match call {
        "GET /.well-known/jwks.json" | "GET /v1/admin/keys" => (200, r#"{"keys":[]}"#.to_owned()),
        _ => (200, r#"{"events":[],"total":5,"offset":0,"limit":1000}"#.to_owned()),
    });
    broken(
        &broker.awrit(&["audit", "verify"]),
        "evt-000001",
        "although the broker counts 5 events",
    );
}

/// A broker whose oldest events were exported to a folder and dropped.
fn shortened() -> RealBroker {
    let mut setup = Setup::new(&[
        ("AA_AUDIT_RETENTION_DAYS", "3"),
        ("AA_AUDIT_EXPORT_DIR", "{folder}/export"),
    ]);
    std::fs::create_dir(setup.folder.path().join("export")).unwrap();
    let clock = Arc::new(ManualClock::at(SystemClock.unix_seconds().get() - 10 * 86_400));
    setup.clock = Arc::clone(&clock);
    let work = async {
        let broker = setup.assemble().await.unwrap();
        for _ in 0..6 {
            let event = EventDraft::success(EventType::TokenAuthFailed, "x");
            assert!(broker.store.append(event));
            broker.store.events(EventFilter::default()).await.unwrap();
            clock.advance(86_400);
        }
        for _ in 0..6 {
            broker.retention.apply().await;
            clock.advance(300);
        }
        broker.store.close().await.unwrap();
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.unwrap().block_on(work);
    RealBroker::start(Setup::in_folder(setup.folder, &[]))
}

#[test]
fn a_trail_that_was_shortened_is_intact_and_says_what_is_gone() {
    let broker = shortened();
    let ended = broker.awrit(&["audit", "verify"]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
    assert!(ended.out.contains("\nDROPPED     evt-000001 to evt-00000"), "{ended:?}");
    let json = broker.awrit(&["audit", "verify", "--json"]).json();
    let dropped = json["dropped"].as_array().unwrap();
    assert_eq!(dropped.last().unwrap()["last"], json["dropped_until"]);
    let mut files: Vec<String> = Vec::new();
    for segment in dropped {
        let name = segment["exported"].as_str().unwrap();
        files.push(broker.folder.path().join("export").join(name).display().to_string());
    }
    assert!(files.len() > 1, "{json}");
    files.reverse();
    let with = |files: &[String], live: bool| {
        let mut arguments = vec!["audit", "verify", "--json", "--file"];
        arguments.extend(files.iter().map(String::as_str));
        arguments.extend(live.then_some("--live"));
        broker.awrit(&arguments)
    };
    let whole = with(&files, true).json();
    assert_eq!(
        (&whole["intact"], &whole["first"]),
        (&true.into(), &"evt-000001".into())
    );
    assert!(whole.get("dropped").is_none() && whole["count"].as_i64() > json["count"].as_i64());
    let ended = with(&files[1..], true);
    assert!(
        ended.code == 1 && ended.err.contains("stands in its place"),
        "a file is missing: {ended:?}"
    );
    assert_eq!(with(&files, false).code, 0);
    let export = broker.folder.path().join("events.jsonl").display().to_string();
    assert_eq!(broker.awrit(&["audit", "export", "--file", &export]).code, 0);
    assert_eq!(
        with(std::slice::from_ref(&export), false).json()["dropped_until"],
        json["dropped_until"]
    );
    let text = std::fs::read_to_string(&export).unwrap();
    let later = text
        .match_indices("\"audit_checkpoint\"")
        .nth(1)
        .map(|(at, _)| text[..at].rfind('\n').unwrap() + 1);
    std::fs::write(&export, &text[later.unwrap()..]).unwrap();
    let ended = with(&[export], false);
    assert!(
        ended.code == 1 && ended.err.contains("no later audit_segment_dropped"),
        "{ended:?}"
    );
    let ended = broker.awrit(&["doctor", "--full"]);
    assert!(ended.out.contains("intact from evt-0000"), "{ended:?}");
    let ended = broker.awrit(&["audit", "verify", "--live"]);
    assert!(ended.code == 1 && ended.err.contains("--file"), "{ended:?}");
}

/// The trail before and after the broker dropped its first segments, and the keys.
struct Dropping {
    before: Vec<AuditEvent>,
    after: Vec<AuditEvent>,
    keys: String,
}

static DROPPING: OnceLock<Dropping> = OnceLock::new();

/// A page of the trail of a broker that drops events once two were read.
fn page_while_dropping(call: &str, _: &str, _: &str) -> (u16, String) {
    static DROPPED: AtomicBool = AtomicBool::new(false);
    let Dropping { before, after, keys } = DROPPING.get().unwrap();
    if call == "GET /.well-known/jwks.json" {
        return (200, keys.clone());
    }
    if call == "GET /v1/admin/keys" {
        // As a broker of the version before answers.
        let problem = Problem::new(ErrorCode::NotFound, "no such path");
        return (404, serde_json::to_string(&problem).unwrap());
    }
    let value = |name: &str| {
        let (_, rest) = call.split_once(&format!("{name}="))?;
        Some(rest.split('&').next().unwrap().to_owned())
    };
    let cursor = value("cursor").map(|id| AuditEvent::sequence_of(&id).unwrap_or_default());
    let trail = if DROPPED.load(Ordering::SeqCst) { after } else { before };
    let limit = value("limit").unwrap().parse::<usize>().unwrap();
    let limit = if cursor == Some(0) { 2 } else { limit };
    let events: Vec<&AuditEvent> = trail
        .iter()
        .filter(|event| AuditEvent::sequence_of(&event.id) > cursor)
        .take(limit)
        .collect();
    if cursor == Some(0) {
        DROPPED.store(true, Ordering::SeqCst);
    }
    let events = serde_json::to_string(&events).unwrap();
    (
        200,
        format!(
            r#"{{"events":{events},"total":{},"offset":0,"limit":{limit}}}"#,
            trail.len()
        ),
    )
}

#[test]
fn a_drop_while_the_trail_is_read_is_no_fault_of_it() {
    let broker = shortened();
    let export = broker.folder.path().join("events.jsonl");
    assert_eq!(
        broker
            .awrit(&["audit", "export", "--file", export.to_str().unwrap()])
            .code,
        0
    );
    let read = |path: &Path| -> Vec<AuditEvent> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let after = read(&export);
    let mut files: Vec<_> = std::fs::read_dir(broker.folder.path().join("export"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let kept = AuditEvent::sequence_of(&after[0].id);
    let mut before: Vec<AuditEvent> = files.iter().flat_map(|file| read(file)).collect();
    before.retain(|event| AuditEvent::sequence_of(&event.id) < kept);
    assert!(before.len() > 2, "{before:?}");
    before.extend(after.iter().take(1).cloned());
    let keys = broker.ask(async |client| client.jwks().await.unwrap());
    let keys = serde_json::to_string(&keys).unwrap();
    let first = after[0].id.clone();
    assert!(DROPPING.set(Dropping { before, after, keys }).is_ok());
    let ended = FakeBroker::plain(page_while_dropping).awrit(&["audit", "verify", "--json"]);
    assert!(ended.code == 0 && ended.err.contains("starting over from"), "{ended:?}");
    let json: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&json["intact"], &json["first"]), (&true.into(), &first.into()));
}
