//! An event has a bound of bytes, whatever its members were made of.

use std::borrow::Cow;

use super::AuditEvent;

/// Bytes of an event as JSON at most.
pub const MAX_EVENT_BYTES: usize = 4096;
/// What names, punctuation, id, moment, type, outcome, depth and hashes take at most, with what sealing adds to a detail.
const FRAME: usize = 900;
/// Of an agent's SPIFFE id; the longest has 795 bytes.
const AGENT: usize = 800;
/// Of a segment of a SPIFFE id; the longest has 253 bytes.
const SEGMENT: usize = 256;
/// Of a request's path.
const RESOURCE: usize = 384;
/// Of a UID of Kubernetes.
const UID: usize = 128;
/// Of an address, a correlation id, a kind, a hash.
const WORD: usize = 64;

/// Cuts members that are too long. The detail has what the others leave, and each that is cut says how long it was.
pub(super) fn bound(event: &mut AuditEvent) {
    let mut room = MAX_EVENT_BYTES - FRAME;
    let extra = &mut event.extra;
    for (member, most) in [
        (&mut event.agent_id, AGENT),
        (&mut event.task_id, SEGMENT),
        (&mut event.orch_id, SEGMENT),
        (&mut event.resource, RESOURCE),
        (&mut event.deleg_chain_hash, WORD),
        (&mut extra.actor, AGENT),
        (&mut extra.source, WORD),
        (&mut extra.correlation_id, WORD),
        (&mut extra.policy_uid, UID),
        (&mut extra.pod_uid, UID),
        (&mut extra.error_kind, WORD),
    ] {
        room = room.saturating_sub(cut(member, most));
    }
    cut(&mut event.detail, room);
}

/// Cuts a text to this many bytes of JSON; how many it has then.
fn cut(text: &mut String, most: usize) -> usize {
    let whole = width(text);
    if whole <= most {
        return whole;
    }
    let tail = format!("… ({} bytes)", text.len());
    let mut used = tail.len();
    let mut end = 0;
    for (at, character) in text.char_indices() {
        used += escaped(character);
        if used > most {
            break;
        }
        end = at + character.len_utf8();
    }
    text.truncate(end);
    text.push_str(&tail);
    width(text)
}

fn width(text: &str) -> usize {
    text.chars().map(escaped).sum()
}

/// Bytes that a character has in a string of JSON, as [`crate::go_json`] writes it.
fn escaped(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..'\u{20}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => 6,
        other => other.len_utf8(),
    }
}

/// An `agent_id` as it stands in an event: a query that names one which was cut looks for this.
pub fn agent_as_audited(agent_id: &str) -> Cow<'_, str> {
    if width(agent_id) <= AGENT {
        return Cow::Borrowed(agent_id);
    }
    let mut text = agent_id.to_owned();
    cut(&mut text, AGENT);
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audit::{EventType, GENESIS_HASH};
    use crate::go_json;

    /// The longest names, numbers and moments that there are.
    fn longest() -> AuditEvent {
        let types = EventType::ALL.iter().map(|event_type| event_type.as_str());
        AuditEvent {
            timestamp: "2026-11-21T09:30:00.123456789Z".into(),
            event_type: types.max_by_key(|name| name.len()).unwrap_or_default().into(),
            outcome: "success".into(),
            deleg_depth: i64::MAX,
            bytes_transferred: i64::MIN,
            ..AuditEvent::default()
        }
    }

    fn bytes(event: &AuditEvent) -> usize {
        go_json::to_vec(event).unwrap().len()
    }

    #[test]
    fn a_text_that_is_cut_says_how_long_it_was() {
        let mut event = AuditEvent {
            agent_id: "x".repeat(16 * 1024),
            detail: "<".repeat(10_000),
            ..longest()
        };
        event.seal(1, GENESIS_HASH);
        assert!(event.agent_id.starts_with("xxx") && event.agent_id.ends_with("x… (16384 bytes)"));
        assert_eq!(event.agent_id.len(), AGENT);
        assert!(event.detail.ends_with("<… (10000 bytes)"), "{}", event.detail);
        assert!(bytes(&event) <= MAX_EVENT_BYTES && bytes(&event) > MAX_EVENT_BYTES - FRAME);
        assert_eq!(agent_as_audited(&"x".repeat(16 * 1024)), event.agent_id);
        assert_eq!(agent_as_audited("admin"), "admin");
    }

    #[test]
    fn an_event_of_usual_size_is_not_cut() {
        let agent = format!(
            "spiffe://{}/agent/{}/{}/{}",
            "d".repeat(255),
            "o".repeat(253),
            "t".repeat(253),
            "i".repeat(16)
        );
        let mut event = AuditEvent {
            agent_id: agent.clone(),
            task_id: "t".repeat(253),
            orch_id: "o".repeat(253),
            detail: "d".repeat(600),
            ..longest()
        };
        event.extra.actor = agent;
        event.extra.source = "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".into();
        event.extra.correlation_id = "c".repeat(32);
        event.extra.policy_uid = "u".repeat(36);
        event.extra.pod_uid = "u".repeat(36);
        let before = event.clone();
        event.seal(i64::MAX, GENESIS_HASH);
        assert!(bytes(&event) <= MAX_EVENT_BYTES);
        assert!(event.detail.starts_with(&before.detail));
        assert_eq!((event.agent_id, event.extra), (before.agent_id, before.extra));
    }

    proptest! {
        #[test]
        fn no_event_is_longer_whatever_its_members_are(
            texts in proptest::collection::vec("\\PC{0,3000}|[\\x00-\\x20<>&\"]{0,3000}|[a-z =:]{0,3000}", 12),
            secret in proptest::bool::ANY,
        ) {
            let mut texts = texts.into_iter();
            let mut next = || texts.next().unwrap_or_default();
            let mut event = AuditEvent {
                agent_id: next(),
                task_id: next(),
                orch_id: next(),
                resource: next(),
                deleg_chain_hash: next(),
                detail: next(),
                ..longest()
            };
            if secret {
                event.detail.insert_str(0, "secret=");
            }
            let extra = &mut event.extra;
            for member in [
                &mut extra.actor, &mut extra.source, &mut extra.correlation_id, &mut extra.policy_uid, &mut extra.pod_uid,
                &mut extra.error_kind,
            ] {
                *member = next();
            }
            event.seal(i64::MAX, GENESIS_HASH);
            prop_assert!(bytes(&event) <= MAX_EVENT_BYTES, "{} bytes", bytes(&event));
        }
    }
}
