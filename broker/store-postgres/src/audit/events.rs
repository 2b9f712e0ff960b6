//! Rows of the audit trail, and of its segments.

use agentwrit_protocol::audit::GENESIS_HASH;
use agentwrit_store::{Result, Segment};
use agentwrit_trail::{Links, SealedEvent, hash_in};

use super::head::{remember, save};
use crate::link::Link;
use crate::value::{Value, values};

const SAVE: &str = "save_audit_event";
const SEAL: &str = "write_audit_segment";
/// Headers of a row and its whole numbers; lengths of its texts; its entry in the primary key.
const ROW: i64 = 24 + 4 + 3 * 8 + 11 * 4 + 40;
/// An entry in another index.
const ENTRY: i64 = 24;

fn length(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}

/// What an event's row takes, about and rather more: a long text may be compressed.
pub(crate) fn cost(sealed: &SealedEvent) -> i64 {
    let event = &sealed.event;
    let extra = &event.extra;
    let texts = [
        &sealed.json,
        &event.event_type,
        &event.outcome,
        &event.agent_id,
        &event.task_id,
        &extra.actor,
        &extra.source,
        &extra.correlation_id,
        &extra.policy_uid,
        &extra.pod_uid,
        &extra.error_kind,
    ];
    let row = texts.iter().map(|text| length(text)).fold(ROW, i64::saturating_add);
    let indexed = [&extra.correlation_id, &extra.pod_uid];
    let entries = indexed.iter().filter(|text| !text.is_empty());
    entries.fold(row, |sum, text| sum.saturating_add(length(text)).saturating_add(ENTRY))
}

/// Writes what a batch appends to the chain, and its head. Nothing of it is waited for.
pub(crate) async fn append(link: &mut Link<'_>, links: &Links) -> Result<()> {
    let mut events = links.events.as_slice();
    // A segment's partition is made before its first row, and after the last row of the one before.
    for segment in &links.sealed {
        let place = events.partition_point(|sealed| sealed.sequence <= segment.last);
        let (its, after) = events.split_at_checked(place).unwrap_or((events, &[]));
        insert(link, segment.first, its).await?;
        events = after;
        link.send(SEAL, "SELECT open_segment($1)", values![segment.last.saturating_add(1)])
            .await?;
        seal(link, segment).await?;
    }
    insert(link, links.head.kept.growing.first, events).await?;
    if let Some(checkpoint) = &links.checkpoint {
        remember(link, checkpoint).await?;
    }
    save(link, &links.head).await
}

async fn insert(link: &mut Link<'_>, segment: i64, events: &[SealedEvent]) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let texts = |column: fn(&SealedEvent) -> &str| -> Value { events.iter().map(column).collect() };
    let sql = "INSERT INTO audit_events (segment, seq, at, event_type, outcome, agent_id, task_id, actor, source, \
               correlation_id, policy_uid, pod_uid, error_kind, json) \
               SELECT $1::bigint, * FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], \
               $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[])";
    let values = values![
        segment,
        events.iter().map(|sealed| sealed.sequence).collect::<Vec<_>>(),
        events.iter().map(|sealed| sealed.at.get()).collect::<Vec<_>>(),
        texts(|sealed| &sealed.event.event_type),
        texts(|sealed| &sealed.event.outcome),
        texts(|sealed| &sealed.event.agent_id),
        texts(|sealed| &sealed.event.task_id),
        texts(|sealed| &sealed.event.extra.actor),
        texts(|sealed| &sealed.event.extra.source),
        texts(|sealed| &sealed.event.extra.correlation_id),
        texts(|sealed| &sealed.event.extra.policy_uid),
        texts(|sealed| &sealed.event.extra.pod_uid),
        texts(|sealed| &sealed.event.extra.error_kind),
        texts(|sealed| &sealed.json),
    ];
    link.send(SAVE, sql, values).await
}

async fn seal(link: &mut Link<'_>, segment: &Segment) -> Result<()> {
    let sql = "INSERT INTO audit_segments (first, last, bytes, first_at, last_at, first_hash, head) \
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let values = values![
        segment.first,
        segment.last,
        segment.bytes,
        segment.first_at.get(),
        segment.last_at.get(),
        &segment.first_hash,
        &segment.head,
    ];
    link.send(SEAL, sql, values).await
}

/// The first event of the segment that an event is in, or of one before it.
pub(crate) async fn segment_of(link: &mut Link<'_>, sequence: i64) -> Result<i64> {
    let sql = "SELECT CASE WHEN $1 >= growing_first THEN growing_first \
               ELSE coalesce((SELECT max(first) FROM audit_segments WHERE first <= $1), 1) END AS segment \
               FROM chain_head WHERE id = 1";
    let found = link
        .first("read_audit_segments", sql, values![sequence], |row| {
            row.whole("segment")
        })
        .await?;
    Ok(found.unwrap_or(1))
}

/// First events of the segments that the events between these two, with them, can be in; in order. A query that names them
/// opens no other partition, however many there are.
pub(crate) async fn segments_between(link: &mut Link<'_>, first: i64, last: i64) -> Result<Vec<i64>> {
    let sql = "SELECT first FROM audit_segments \
               WHERE first >= coalesce((SELECT max(first) FROM audit_segments WHERE first <= $1), 1) AND first <= $2 \
               UNION ALL SELECT growing_first FROM chain_head WHERE id = 1 AND growing_first <= $2 ORDER BY 1";
    link.all("read_audit_segments", sql, values![first, last], |row| {
        row.whole("first")
    })
    .await
}

/// `hash` of the event with this number, while its row is there.
pub(crate) async fn hash_at(link: &mut Link<'_>, sequence: i64) -> Result<Option<String>> {
    if sequence == 0 {
        return Ok(Some(GENESIS_HASH.to_owned()));
    }
    let segment = segment_of(link, sequence).await?;
    let sql = "SELECT json FROM audit_events WHERE segment = $1 AND seq = $2";
    let json = link
        .first("restore", sql, values![segment, sequence], |row| row.text("json"))
        .await?;
    json.map(|json| hash_in(&json)).transpose()
}
