use std::io::Write;
use std::path::PathBuf;

use agentwrit_protocol::audit::{DropRule, ExportedFile, GENESIS_HASH, SignatureCheck};
use agentwrit_protocol::clock::ManualClock;
use agentwrit_protocol::go_json;

use super::*;
use crate::output::Output;

/// What somebody does to a trail.
type Change<'a> = &'a dyn Fn(&mut Vec<AuditEvent>);

const KID: &str = "key-1";

/// Takes the signature that [`trail`] writes for a signature of the key [`KID`].
fn keys(kid: &str, _: &str, signature: &str) -> SignatureCheck {
    match (kid == KID, signature.starts_with('A')) {
        (false, _) => SignatureCheck::UnknownKey,
        (true, true) => SignatureCheck::Valid,
        (true, false) => SignatureCheck::Invalid,
    }
}

/// A trail with a checkpoint of this key at each of these numbers.
fn trail(length: i64, checkpoints: &[i64], kid: &str) -> Vec<AuditEvent> {
    let mut head = GENESIS_HASH.to_owned();
    let mut events = Vec::new();
    for sequence in 1..=length {
        let mut event = AuditEvent {
            event_type: "token_revoked".to_owned(),
            timestamp: format!("2026-11-21T07:00:{sequence:02}Z"),
            detail: format!("a <b> {sequence}"),
            ..AuditEvent::default()
        };
        event.extra.actor = "admin".to_owned();
        if checkpoints.contains(&sequence) {
            event.event_type = "audit_checkpoint".to_owned();
            event.extra.actor.clear();
            event.detail = Checkpoint {
                sequence: sequence - 1,
                head: head.clone(),
                timestamp: event.timestamp.clone(),
                kid: kid.to_owned(),
                signature: "A".repeat(86),
            }
            .detail();
        }
        event.seal(sequence, &head);
        head.clone_from(&event.hash);
        events.push(event);
    }
    events
}

fn texts(events: &[AuditEvent]) -> Vec<String> {
    events.iter().map(|event| go_json::to_string(event).unwrap()).collect()
}

fn walk(mut verification: Verification<'_>, texts: &[String]) -> Verdict {
    for text in texts {
        if let Err(broken) = verification.feed(text) {
            return verification.end(broken);
        }
    }
    verification.finish()
}

fn from_start(texts: &[String], expected: Expected) -> Verdict {
    walk(Verification::from(false, &keys, expected), texts)
}

fn broken(verdict: &Verdict) -> (String, String) {
    assert!(!verdict.intact, "{verdict:?}");
    let broken = verdict.broken.clone().unwrap();
    (broken.event, broken.problem)
}

#[test]
fn an_intact_trail_reports_its_end_and_its_signed_end() {
    let events = trail(7, &[3, 5], KID);
    let verdict = from_start(&texts(&events), Expected::default());
    let wanted = Verdict {
        intact: true,
        events: 7,
        first: Some("evt-000001".to_owned()),
        last: Some("evt-000007".to_owned()),
        count: 7,
        head: events[6].hash.clone(),
        checkpoint: Some("evt-000005".to_owned()),
        signed_at: Some("2026-11-21T07:00:05Z".to_owned()),
        unsigned: 2,
        dropped_until: None,
        dropped: Vec::new(),
        signatures_checked: true,
        broken: None,
    };
    assert_eq!(verdict, wanted);
    let nothing = from_start(&[], Expected::default());
    assert!(
        nothing.intact && nothing.count == 0 && nothing.first.is_none(),
        "{nothing:?}"
    );
}

#[test]
fn every_change_is_found_at_the_event_that_it_was_made_to() {
    let events = trail(7, &[3], KID);
    let changed = |change: Change<'_>| {
        let mut events = events.clone();
        change(&mut events);
        broken(&from_start(&texts(&events), Expected::default()))
    };
    let table: [(Change<'_>, &str, &str); 7] = [
        (&|events| events[4].detail = "nothing".to_owned(), "evt-000005", "hash"),
        (
            &|events| events[4].extra.actor = "nobody".to_owned(),
            "evt-000005",
            "ext_hash",
        ),
        (&|events| events[4].extra.actor.clear(), "evt-000005", "ext_hash"),
        (&|events| events[4].bytes_transferred = 1, "evt-000005", "hash"),
        (
            &|events| drop(events.remove(4)),
            "evt-000005",
            "\"evt-000006\" stands in its place",
        ),
        (&|events| events.swap(3, 4), "evt-000004", "stands in its place"),
        (
            &|events| {
                events[4].detail = "rewritten".to_owned();
                events[4].hash = events[4].compute_hash();
            },
            "evt-000005",
            "ext_hash",
        ),
    ];
    for (number, (change, event, problem)) in table.into_iter().enumerate() {
        let found = changed(change);
        assert!(found.0 == event && found.1.contains(problem), "{number}: {found:?}");
    }
}

#[test]
fn a_rewritten_trail_has_no_signature() {
    // Without the key: the signature of the old trail, or none.
    for (signed, problem) in [
        (true, "it is a checkpoint of other events"),
        (false, "its signature is not that of"),
    ] {
        let mut forged = trail(7, &[3], KID);
        forged[0].detail = forged[0].detail.replacen('1', "nothing happened", 1);
        let mut head = GENESIS_HASH.to_owned();
        for event in &mut forged {
            if event.id == "evt-000003" && !signed {
                let checkpoint = Checkpoint::from_event(event).unwrap();
                let signature = "B".repeat(86);
                event.detail = Checkpoint {
                    head: head.clone(),
                    signature,
                    ..checkpoint
                }
                .detail();
            }
            event.prev_hash.clone_from(&head);
            event.hash = event.compute_hash();
            head.clone_from(&event.hash);
        }
        let found = broken(&from_start(&texts(&forged), Expected::default()));
        assert!(found.0 == "evt-000003" && found.1.starts_with(problem), "{found:?}");
    }
}

#[test]
fn members_outside_the_hash_are_found_other_spellings_pass() {
    let mut lines = texts(&trail(3, &[], KID));
    assert!(lines[1].contains("\\u003cb\\u003e"), "{}", lines[1]);
    let value: Value = serde_json::from_str(&lines[1]).unwrap();
    lines[1] = serde_json::to_string_pretty(&value).unwrap();
    assert!(lines[1].contains("<b>"), "{}", lines[1]);
    assert!(from_start(&lines, Expected::default()).intact);
    for added in [r#"{"approved_by":"me","#, r#"{"outcome":"","#, r#"{"id":"evt-000009","#] {
        let mut lines = lines.clone();
        lines[2] = lines[2].replacen('{', added, 1);
        let found = broken(&from_start(&lines, Expected::default()));
        assert_eq!(found.0, "evt-000003", "{added}: {found:?}");
        assert!(found.1.starts_with("its text is"), "{added}: {found:?}");
    }
}

#[test]
fn a_cut_off_end_is_found_by_what_was_noted() {
    let events = trail(7, &[3], KID);
    let all = texts(&events);
    let hash = |number: usize| Some(events[number - 1].hash.clone());
    let good = [(Some(7), hash(7)), (Some(5), hash(5)), (None, hash(5)), (Some(5), None)];
    for (count, head) in good {
        assert!(
            from_start(&all, Expected::new(count, head.clone())).intact,
            "{count:?} {head:?}"
        );
    }
    let cut = &all[..5];
    for (count, head, event, problem) in [
        (Some(7), hash(7), "evt-000006", "cut off"),
        (Some(7), None, "evt-000006", "cut off"),
        (None, hash(7), "evt-000005", "cut off or rewritten"),
        (Some(4), hash(5), "evt-000004", "rewritten"),
    ] {
        let found = broken(&from_start(cut, Expected::new(count, head)));
        assert!(found.0 == event && found.1.contains(problem), "{found:?}");
    }
}

#[test]
fn a_checkpoints_signature_covers_what_is_before() {
    let events = trail(7, &[3], KID);
    let tail = texts(&events[2..]);
    let from_checkpoint = |texts: &[String], expected| walk(Verification::from(true, &keys, expected), texts);
    let verdict = from_checkpoint(&tail, Expected::default());
    assert!(
        verdict.intact && verdict.events == 5 && verdict.count == 7,
        "{verdict:?}"
    );
    let hash = |number: usize| Some(events[number - 1].hash.clone());
    // The event right before is known by its hash, others aren't.
    assert!(from_checkpoint(&tail, Expected::new(Some(2), hash(2))).intact);
    let found = broken(&from_checkpoint(&tail, Expected::new(Some(1), hash(1))));
    assert!(found.1.contains("verify from the first event"), "{found:?}");
    let found = broken(&from_checkpoint(&texts(&events[3..]), Expected::default()));
    assert!(found.1.contains("no audit_checkpoint"), "{found:?}");
}

#[test]
fn a_checkpoint_of_an_unknown_key_needs_a_later_known_one() {
    let mut events = trail(7, &[3, 5], "key-2");
    let foreign = texts(&events);
    for (anchored, from) in [(false, 0), (true, 2)] {
        let found = broken(&walk(
            Verification::from(anchored, &keys, Expected::default()),
            &foreign[from..],
        ));
        assert_eq!(found.0, "evt-000003");
        assert!(found.1.contains("key key-2, which isn't known"), "{found:?}");
        let verification = Verification::from(anchored, &keys, Expected::default()).without_signatures();
        let verdict = walk(verification, &foreign[from..]);
        assert!(verdict.intact && !verdict.signatures_checked, "{verdict:?}");
    }
    // The next event is a checkpoint of the known key.
    let last = events.last().unwrap().clone();
    let mut event = trail(1, &[1], KID).remove(0);
    let checkpoint = Checkpoint::from_event(&event).unwrap();
    event.detail = Checkpoint {
        sequence: 7,
        head: last.hash.clone(),
        ..checkpoint
    }
    .detail();
    event.seal(8, &last.hash);
    events.push(event);
    let verdict = from_start(&texts(&events), Expected::default());
    assert!(
        verdict.intact && verdict.checkpoint.as_deref() == Some("evt-000008"),
        "{verdict:?}"
    );
}

#[test]
fn a_file_is_read_line_by_line_from_where_it_shall_begin() {
    let events = trail(7, &[3, 5], KID);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "{}\n\n", texts(&events).join("\n")).unwrap();
    let file = EventFiles::new(&[file.path().to_owned()]).unwrap();
    let verify = |start: &Start| {
        let place = file.place(start).unwrap();
        let mut verification = Verification::from(place.anchored, &keys, Expected::default());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let clock = ManualClock::at(0);
        let mut output = Output::new(false, &mut out, &mut err);
        let broken = file.feed(&place, &mut verification, &mut Progress::new(&clock), &mut output);
        assert_eq!(broken.unwrap(), None);
        verification.finish()
    };
    for (start, count) in [(Start::First, 7), (Start::LastCheckpoint, 3), (Start::Checkpoint(3), 5)] {
        let verdict = verify(&start);
        assert!(verdict.intact && verdict.events == count, "{start:?}: {verdict:?}");
    }
    let nowhere = file.place(&Start::Checkpoint(9)).unwrap_err();
    assert!(nowhere.to_string().contains("holds no event evt-000009"), "{nowhere}");
}

/// The same trail, with this segment dropped by the event of this number.
fn with_drop(mut events: Vec<AuditEvent>, at: usize, first: i64, last: i64, exported: bool) -> Vec<AuditEvent> {
    let hash = |number: i64| events[usize::try_from(number - 1).unwrap()].hash.clone();
    let segment = DroppedSegment {
        first,
        last,
        first_hash: hash(first),
        last_hash: hash(last),
        rule: DropRule::Age,
        exported: exported.then(|| ExportedFile {
            name: "audit-e-000001-000002.jsonl".to_owned(),
            sha256: "0".repeat(64),
        }),
    };
    events[at - 1].event_type = "audit_segment_dropped".to_owned();
    events[at - 1].extra.actor.clear();
    events[at - 1].detail = segment.detail();
    let mut head = events[at - 2].hash.clone();
    for (event, sequence) in events[at - 1..].iter_mut().zip(i64::try_from(at).unwrap()..) {
        event.detail = event.detail.split(" ext_hash=").next().unwrap().to_owned();
        event.seal(sequence, &head);
        head.clone_from(&event.hash);
    }
    events
}

#[test]
fn a_trail_without_its_beginning_has_to_say_what_was_dropped() {
    let from_first = |texts: &[String], first| walk(Verification::from_first(first, &keys, Expected::default()), texts);
    for exported in [true, false] {
        let events = with_drop(trail(7, &[3], KID), 5, 1, 2, exported);
        let verdict = from_first(&texts(&events[2..]), 3);
        assert!(verdict.intact && verdict.events == 5, "{verdict:?}");
        assert_eq!(verdict.dropped_until.as_deref(), Some("evt-000002"));
        let line = drop_summary("evt-000002", &verdict.dropped);
        let how = if exported {
            "exported as audit-e-000001-000002.jsonl"
        } else {
            "not exported"
        };
        assert_eq!(line, format!("evt-000001 to evt-000002 ({how})"));
        // What is there was not dropped.
        let whole = from_first(&texts(&events), 1);
        assert!(whole.intact && whole.dropped.is_empty() && whole.dropped_until.is_none());
    }
    let silent = trail(7, &[3], KID);
    let found = broken(&from_first(&texts(&silent[2..]), 3));
    assert!(
        found.0 == "evt-000002" && found.1.contains("no later audit_segment_dropped"),
        "{found:?}"
    );
    let other = with_drop(trail(7, &[2, 3], KID), 5, 1, 1, true);
    let found = broken(&from_first(&texts(&other[2..]), 3));
    assert!(found.0 == "evt-000002", "more is missing than was dropped: {found:?}");
    let found = broken(&from_first(&texts(&silent[3..]), 4));
    assert!(found.1.contains("no audit_checkpoint"), "{found:?}");
}

#[test]
fn files_are_read_in_the_order_of_their_events() {
    let folder = tempfile::tempdir().unwrap();
    let texts = texts(&trail(7, &[3, 5], KID));
    let mut paths = Vec::new();
    for (name, range) in [("b", 0..2), ("c", 4..7), ("a", 2..4)] {
        paths.push(folder.path().join(name));
        std::fs::write(paths.last().unwrap(), texts[range].join("\n")).unwrap();
    }
    let verify = |paths: &[PathBuf]| {
        let files = EventFiles::new(paths).unwrap();
        let place = files.place(&Start::First).unwrap();
        let mut verification = Verification::from_first(place.first.unwrap(), &keys, Expected::default());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let clock = ManualClock::at(0);
        let mut output = Output::new(false, &mut out, &mut err);
        match files.feed(&place, &mut verification, &mut Progress::new(&clock), &mut output) {
            Ok(Some(found)) => verification.end(found),
            other => {
                assert_eq!(other.unwrap(), None);
                verification.finish()
            }
        }
    };
    let verdict = verify(&paths);
    assert!(verdict.intact && verdict.events == 7, "{verdict:?}");
    let found = broken(&verify(&paths[..2]));
    assert_eq!(found.0, "evt-000003", "a file is missing: {found:?}");
    std::fs::write(&paths[0], "\n").unwrap();
    let error = EventFiles::new(&paths).err().unwrap().to_string();
    assert!(error.contains("b: it holds no event"), "{error}");
}
