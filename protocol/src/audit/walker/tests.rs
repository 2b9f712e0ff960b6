use super::*;
use crate::audit::Outcome;

/// The tests' stand-in for Ed25519: the kid and the message, spelt in base64url letters.
fn signature(kid: &str, message: &str) -> String {
    use base64::Engine;
    use sha2::{Digest, Sha512};
    let bytes = Sha512::digest(format!("{kid}{message}").as_bytes());
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn keys(kid: &str, message: &str, given: &str) -> SignatureCheck {
    match kid {
        "mine" if signature(kid, message) == given => SignatureCheck::Valid,
        "mine" => SignatureCheck::Invalid,
        _ => SignatureCheck::UnknownKey,
    }
}

/// A chain of this many events with a checkpoint of `kid` at each of `checkpoints`.
fn chain(length: i64, checkpoints: &[i64], kid: &str) -> Vec<AuditEvent> {
    let mut events: Vec<AuditEvent> = Vec::new();
    for sequence in 1..=length {
        let before = events
            .last()
            .map_or(GENESIS_HASH.to_owned(), |event| event.hash.clone());
        events.push(if checkpoints.contains(&sequence) {
            checkpoint(sequence, &before, kid)
        } else {
            ordinary(sequence, &before)
        });
    }
    events
}

fn ordinary(sequence: i64, before: &str) -> AuditEvent {
    let mut event = AuditEvent {
        timestamp: format!("2026-11-21T12:00:00.{sequence:09}Z"),
        event_type: EventType::AdminAuth.as_str().to_owned(),
        outcome: Outcome::Success.as_str().to_owned(),
        detail: "admin <authenticated>".to_owned(),
        ..AuditEvent::default()
    };
    if sequence % 2 == 0 {
        event.extra.actor = "admin".to_owned();
    }
    event.seal(sequence, before);
    event
}

fn checkpoint(sequence: i64, before: &str, kid: &str) -> AuditEvent {
    let timestamp = "2026-11-21T13:00:00Z";
    let signed = Checkpoint {
        sequence: sequence - 1,
        head: before.to_owned(),
        timestamp: timestamp.to_owned(),
        kid: kid.to_owned(),
        signature: signature(kid, &Checkpoint::message(sequence - 1, before, timestamp)),
    };
    let mut event = AuditEvent {
        timestamp: timestamp.to_owned(),
        event_type: EventType::AuditCheckpoint.as_str().to_owned(),
        outcome: Outcome::Success.as_str().to_owned(),
        detail: signed.detail(),
        ..AuditEvent::default()
    };
    event.seal(sequence, before);
    event
}

/// Chains the events anew from this index on, as somebody without the key would.
fn reseal(events: &mut [AuditEvent], from: usize) {
    for index in from..events.len() {
        let before = index
            .checked_sub(1)
            .map_or(GENESIS_HASH.to_owned(), |before| events[before].hash.clone());
        let event = &mut events[index];
        event.prev_hash = before;
        event.hash = event.compute_hash();
    }
}

fn walk(mut walker: ChainWalker, events: &[AuditEvent]) -> Result<Summary, Break> {
    for event in events {
        walker.feed(event, &keys)?;
    }
    walker.finish()
}

fn broken(events: &[AuditEvent]) -> (i64, BreakKind) {
    let found = walk(ChainWalker::from_start(), events).unwrap_err();
    (found.sequence, found.kind)
}

#[test]
fn a_whole_chain_is_walked_to_its_head() {
    let events = chain(12, &[5, 9], "mine");
    let done = walk(ChainWalker::from_start(), &events).unwrap();
    assert_eq!((done.sequence, done.events, &done.head), (12, 12, &events[11].hash));
    assert_eq!((done.signed.unwrap().sequence, done.unknown), (8, None));
    let none = walk(ChainWalker::from_start(), &[]).unwrap();
    assert_eq!((none.sequence, none.head.as_str()), (0, GENESIS_HASH));
}

#[test]
fn the_first_event_that_was_changed_is_named() {
    let good = chain(12, &[5, 9], "mine");
    let change = |change: &dyn Fn(&mut Vec<AuditEvent>)| {
        let mut events = good.clone();
        change(&mut events);
        broken(&events)
    };
    assert_eq!(change(&|events| events[2].detail.push('x')), (3, BreakKind::Hash));
    assert_eq!(
        change(&|events| events[3].extra.actor.push('x')),
        (4, BreakKind::ExtHash)
    );
    assert_eq!(change(&|events| events[3].extra.actor.clear()), (4, BreakKind::ExtHash));
    assert_eq!(
        change(&|events| events[2].extra.actor.push('x')),
        (3, BreakKind::ExtHash)
    );
    let (at, kind) = change(&|events| drop(events.remove(6)));
    assert_eq!((at, kind), (7, BreakKind::Id("evt-000008".to_owned())));
    let (at, kind) = change(&|events| events.swap(0, 1));
    assert_eq!((at, kind), (1, BreakKind::Id("evt-000002".to_owned())));
    assert_eq!(
        change(&|events| events[10] = ordinary(11, GENESIS_HASH)),
        (11, BreakKind::PrevHash)
    );
}

#[test]
fn a_rewritten_chain_is_found_at_the_next_checkpoint() {
    let mut events = chain(12, &[5, 9], "mine");
    events[6].detail = "nothing happened".to_owned();
    reseal(&mut events, 6);
    assert_eq!(broken(&events), (9, BreakKind::CheckpointSubject));
    // With the detail made to fit, the signature gives it away.
    let before = events[7].hash.clone();
    events[8] = checkpoint(9, &before, "mine");
    let detail = &mut events[8].detail;
    detail.replace_range(detail.len() - 4.., "AAAA");
    reseal(&mut events, 8);
    assert_eq!(broken(&events), (9, BreakKind::Signature));
    events[8].detail = "sequence=8".to_owned();
    reseal(&mut events, 8);
    assert_eq!(broken(&events), (9, BreakKind::Checkpoint(CheckpointError::Detail)));
}

#[test]
fn checkpoints_can_t_be_left_out() {
    let events = chain(1001, &[], "mine");
    assert_eq!(broken(&events), (1000, BreakKind::NoCheckpoint));
    assert!(walk(ChainWalker::from_start(), &events[..999]).is_ok());
    let events = chain(1999, &[1000], "mine");
    assert!(walk(ChainWalker::from_start(), &events).is_ok());
    let events = chain(2000, &[1000], "mine");
    assert_eq!(broken(&events), (2000, BreakKind::NoCheckpoint));
}

#[test]
fn a_checkpoint_of_an_unknown_key_is_told_apart() {
    let done = walk(ChainWalker::from_start(), &chain(6, &[3], "another")).unwrap();
    assert_eq!((done.signed, done.unknown.unwrap().kid.as_str()), (None, "another"));
}

#[test]
fn a_walk_may_start_at_a_checkpoint_only() {
    let events = chain(12, &[5, 9], "mine");
    let done = walk(ChainWalker::from_checkpoint(), &events[4..]).unwrap();
    assert_eq!((done.sequence, done.events), (12, 8));
    let found = walk(ChainWalker::from_checkpoint(), &events[5..]).unwrap_err();
    assert_eq!(found.to_string(), "evt-000006: it is no audit_checkpoint");
    let mut moved = events[4..].to_vec();
    moved[0].detail = moved[0].detail.replace("sequence=4", "sequence=3");
    let found = walk(ChainWalker::from_checkpoint(), &moved).unwrap_err();
    assert_eq!(
        (found.sequence, found.kind),
        (4, BreakKind::Id("evt-000005".to_owned()))
    );
}

#[test]
fn a_checkpoint_kept_elsewhere_shows_a_cut_or_rewritten_trail() {
    let events = chain(12, &[5, 9], "mine");
    let kept = Checkpoint::from_event(&events[8]).unwrap();
    let expecting = || ChainWalker::from_start().expecting(kept.clone());
    assert!(walk(expecting(), &events).is_ok());
    assert!(walk(expecting(), &events[..8]).is_ok(), "it covers eight");
    let found = walk(expecting(), &events[..7]).unwrap_err();
    assert_eq!(
        (found.sequence, &found.kind),
        (8, &BreakKind::Truncated(kept.timestamp.clone()))
    );
    assert!(found.to_string().starts_with("evt-000008: it is missing"), "{found}");
    let mut other = events[..8].to_vec();
    other[7].detail.push('x');
    reseal(&mut other, 7);
    let found = walk(expecting(), &other).unwrap_err();
    assert_eq!((found.sequence, found.kind), (8, BreakKind::ExtHash));
    other[7] = ordinary(8, &other[6].hash);
    other[7].outcome = "denied".to_owned();
    reseal(&mut other, 7);
    let found = walk(expecting(), &other).unwrap_err();
    assert_eq!(
        (found.sequence, found.kind),
        (8, BreakKind::Statement(kept.timestamp.clone()))
    );
}

#[test]
fn the_text_of_an_event_has_one_spelling() {
    let event = ordinary(1, GENESIS_HASH);
    let text = go_json::to_string(&event).unwrap();
    let fed = |text: &str| {
        ChainWalker::from_start()
            .feed_json(text, &keys)
            .map_err(|found| found.kind)
    };
    assert_eq!(fed(&text), Ok(Step::Event));
    for other in [
        text.replace(r#""outcome""#, r#""note":"added","outcome""#),
        text.replace("\\u003c", "<"),
        text.replacen(':', ": ", 1),
        text.replace(r#""outcome":"success","#, r#""outcome":"success","resource":"","#),
    ] {
        assert_ne!(other, text);
        assert_eq!(fed(&other), Err(BreakKind::Spelling), "{other}");
    }
    assert!(matches!(fed("{"), Err(BreakKind::Unreadable(_))));
}
