//! The chain's head: what a batch appends to it, and how it is checked at start.

use agentwrit_protocol::audit::{
    AuditEvent, Break, BreakKind, ChainWalker, Checkpoint, CheckpointKeys, EventType, GENESIS_HASH, MAX_UNSIGNED,
    Outcome, SignatureCheck, Step,
};
use agentwrit_protocol::timestamp::rfc3339_nanos;
use agentwrit_protocol::{StoreMark, UnixNanos};
use agentwrit_store::segment::{Cut, Segment};
use agentwrit_store::{CheckpointSigner, EventDraft, MetaKey, Result, SignedStatement, StoreError};
use rusqlite::Connection;
use time::{Duration, OffsetDateTime};

use crate::audit::events::{SealedEvent, Sizes, insert};
use crate::audit::segments::{self, Kept};
use crate::audit::short_form::{expanded, text};
use crate::error::Operation;
use crate::facts;

/// Events that stay without a checkpoint for so long get one, however few they are.
const LONGEST_UNSIGNED: Duration = Duration::HOUR;
const VERIFY: &str = "verify_audit_chain";

/// The last event of the chain, and what is signed of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChainHead {
    /// Its number; 0 before the first.
    pub(crate) sequence: i64,
    hash: String,
    /// Number of the last checkpoint; 0 before the first.
    checkpoint: i64,
    /// Number of the last event that the last signed statement covers.
    signed: i64,
    /// When the first event after the last checkpoint was.
    unsigned_since: Option<UnixNanos>,
    /// Whether the last checkpoint is of a key that is gone.
    foreign: bool,
    /// What is kept of the trail that it is the end of.
    pub(crate) kept: Kept,
}

impl Default for ChainHead {
    fn default() -> Self {
        Self {
            sequence: 0,
            hash: GENESIS_HASH.to_owned(),
            checkpoint: 0,
            signed: 0,
            unsigned_since: None,
            foreign: false,
            kept: Kept::default(),
        }
    }
}

/// What a batch appends.
#[derive(Default)]
pub(crate) struct Links {
    pub(crate) head: ChainHead,
    pub(crate) events: Vec<SealedEvent>,
    /// The last checkpoint among them.
    pub(crate) checkpoint: Option<Checkpoint>,
    /// Segments that end with them.
    pub(crate) sealed: Vec<Segment>,
}

impl ChainHead {
    /// Where a store of this epoch stands with this head.
    pub(crate) fn mark(&self, epoch: String) -> StoreMark {
        StoreMark {
            epoch,
            sequence: self.sequence,
            head: self.hash.clone(),
        }
    }

    /// Events that are kept.
    pub(crate) fn events(&self) -> i64 {
        self.sequence.saturating_add(1).saturating_sub(self.kept.first)
    }

    /// Whether there is anything that no statement covers.
    pub(crate) fn unsigned(&self) -> bool {
        self.signed < self.sequence
    }

    /// A signed statement about everything up to this head.
    pub(crate) fn statement(&self, now: OffsetDateTime, signer: &dyn CheckpointSigner) -> Result<Checkpoint> {
        let timestamp = rfc3339_nanos(now);
        let message = Checkpoint::message(self.sequence, &self.hash, &timestamp);
        let SignedStatement { kid, signature } = signer.sign(&message).map_err(StoreError::Signing)?;
        Ok(Checkpoint {
            sequence: self.sequence,
            head: self.hash.clone(),
            timestamp,
            kid,
            signature,
        })
    }

    fn overdue(&self, now: OffsetDateTime) -> bool {
        let oldest = self.unsigned_since.unwrap_or(UnixNanos::MAX);
        self.foreign || UnixNanos::from(now.saturating_sub(LONGEST_UNSIGNED)) >= oldest
    }

    fn full(&self) -> bool {
        self.sequence.saturating_sub(self.checkpoint) >= MAX_UNSIGNED
    }
}

/// Numbers, chains and signs what a batch tells, in order, with the checkpoints that are due.
pub(crate) fn seal(
    head: &ChainHead,
    drafts: Vec<(OffsetDateTime, EventDraft)>,
    now: OffsetDateTime,
    signer: &dyn CheckpointSigner,
    cut: Cut,
) -> Result<Links> {
    let mut links = Links {
        head: head.clone(),
        ..Links::default()
    };
    // A reader of the trail trusts a new key by the statement of one that it knows.
    let announces_key = drafts
        .iter()
        .any(|(_, draft)| draft.event_type == EventType::KeyPublished);
    for (at, draft) in drafts {
        if links.head.full() || links.head.kept.is_due(cut, at.into()) {
            links.sign(at, signer, cut)?;
        }
        links.append(at, event(draft))?;
    }
    if announces_key || links.head.overdue(now) || links.head.kept.is_due(cut, now.into()) {
        links.sign(now, signer, cut)?;
    }
    Ok(links)
}

fn event(draft: EventDraft) -> AuditEvent {
    AuditEvent {
        event_type: draft.event_type.as_str().to_owned(),
        outcome: draft.outcome.as_str().to_owned(),
        agent_id: draft.agent_id,
        task_id: draft.task_id,
        orch_id: draft.orch_id,
        detail: draft.detail,
        resource: draft.resource,
        deleg_depth: draft.deleg_depth,
        deleg_chain_hash: draft.deleg_chain_hash,
        extra: draft.extra,
        ..AuditEvent::default()
    }
}

impl Links {
    /// The types of the events, in order.
    pub(crate) fn event_types(&self) -> Vec<&str> {
        let types = self.events.iter().map(|sealed| sealed.event.event_type.as_str());
        types.collect()
    }

    fn append(&mut self, at: OffsetDateTime, mut event: AuditEvent) -> Result<()> {
        let sequence = self.head.sequence.saturating_add(1);
        event.timestamp = rfc3339_nanos(at);
        let at = UnixNanos::from(at);
        event.seal(sequence, &self.head.hash);
        self.head.sequence = sequence;
        self.head.hash.clone_from(&event.hash);
        self.head.unsigned_since.get_or_insert(at);
        let json = text(&event)?;
        let sealed = SealedEvent {
            sequence,
            at,
            event,
            json,
        };
        let cost = Sizes::of_event(&sealed).cost();
        self.head.kept.appended(at, cost, &self.head.hash);
        self.events.push(sealed);
        Ok(())
    }

    /// Appends a checkpoint; when a segment is due to be sealed, the next begins with it.
    fn sign(&mut self, at: OffsetDateTime, signer: &dyn CheckpointSigner, cut: Cut) -> Result<()> {
        let checkpoint = self.head.statement(at, signer)?;
        if self.head.kept.is_due(cut, at.into()) {
            let segment = self.head.kept.seal(self.head.sequence, &self.head.hash);
            self.sealed.push(segment);
        }
        let event = AuditEvent {
            event_type: EventType::AuditCheckpoint.as_str().to_owned(),
            outcome: Outcome::Success.as_str().to_owned(),
            detail: checkpoint.detail(),
            ..AuditEvent::default()
        };
        self.append(at, event)?;
        self.head.signed = checkpoint.sequence;
        self.head.checkpoint = self.head.sequence;
        self.head.unsigned_since = None;
        self.head.foreign = false;
        self.checkpoint = Some(checkpoint);
        Ok(())
    }
}

/// Writes what a batch appends to the chain.
pub(crate) fn append(connection: &Connection, links: Links) -> Result<Links> {
    insert(connection, &links.events)?;
    segments::insert(connection, &links.sealed)?;
    if let Some(checkpoint) = &links.checkpoint {
        remember(connection, checkpoint)?;
    }
    Ok(links)
}

/// Reads the statement that the store was left with.
fn remembered(connection: &Connection) -> Result<Option<Checkpoint>> {
    let parse = |text: String| {
        serde_json::from_str(&text).map_err(|error| StoreError::Corrupt {
            what: "audit checkpoint",
            why: error.to_string(),
        })
    };
    facts::read(connection, MetaKey::AuditCheckpoint)?
        .map(parse)
        .transpose()
}

/// Keeps a statement, so that the next start knows how long the trail was.
pub(crate) fn remember(connection: &Connection, checkpoint: &Checkpoint) -> Result<()> {
    let text = serde_json::to_string(checkpoint).map_err(|error| StoreError::Corrupt {
        what: "audit checkpoint",
        why: error.to_string(),
    })?;
    facts::write(connection, MetaKey::AuditCheckpoint, &text)
}

/// One row of the trail.
struct Row {
    sequence: i64,
    at: UnixNanos,
    json: String,
}

/// The rows since the last checkpoint, that one included, in order; all of them when there is none. Never more than
/// may stand between two checkpoints, and one.
fn tail(connection: &Connection) -> Result<(Vec<Row>, bool)> {
    let sql = "SELECT seq, at, event_type, json FROM audit_events ORDER BY seq DESC LIMIT ?";
    let mut statement = connection.prepare_cached(sql).during(VERIFY)?;
    let mut rows = statement.query([MAX_UNSIGNED.saturating_add(1)]).during(VERIFY)?;
    let mut tail = Vec::new();
    let mut anchored = false;
    while let Some(row) = rows.next().during(VERIFY)? {
        let event_type: String = row.get(2).during(VERIFY)?;
        tail.push(Row {
            sequence: row.get(0).during(VERIFY)?,
            at: row.get(1).map(UnixNanos::new).during(VERIFY)?,
            json: row.get(3).during(VERIFY)?,
        });
        if let Some(row) = tail.last_mut().filter(|row| row.json.is_empty()) {
            row.json = expanded(connection, row.sequence)?;
        }
        if event_type == EventType::AuditCheckpoint.as_str() {
            anchored = true;
            break;
        }
    }
    tail.reverse();
    Ok((tail, anchored))
}

/// Verifies the chain since its last checkpoint, against what was signed last, and returns its head.
///
/// # Errors
/// [`StoreError::BrokenChain`] naming the first event that doesn't fit, or the first that is missing at the end.
pub(crate) fn verify_tail(connection: &Connection, keys: &dyn CheckpointKeys) -> Result<ChainHead> {
    let known = remembered(connection)?;
    if let Some(known) = &known
        && known.check(keys) == SignatureCheck::Invalid
    {
        return Err(broken(known.sequence, BreakKind::Signature));
    }
    let (rows, anchored) = tail(connection)?;
    if let (false, Some(first), Some(last)) = (anchored, rows.first(), rows.last())
        && first.sequence != 1
    {
        return Err(broken(last.sequence, BreakKind::NoCheckpoint));
    }
    let walker = if anchored {
        ChainWalker::from_checkpoint()
    } else {
        ChainWalker::from_start()
    };
    let mut walker = known.iter().cloned().fold(walker, ChainWalker::expecting);
    let mut head = ChainHead::default();
    for row in rows {
        let step = walker.feed_json(&row.json, keys).map_err(StoreError::BrokenChain)?;
        match step {
            Step::Event => {
                head.unsigned_since.get_or_insert(row.at);
            }
            Step::Signed | Step::UnknownKey => {
                head.checkpoint = row.sequence;
            }
        }
        // What the walker took for the event's place has to be the row's.
        if walker.sequence() != row.sequence {
            return Err(broken(
                walker.sequence(),
                BreakKind::Id(AuditEvent::id_for(row.sequence)),
            ));
        }
    }
    let done = walker.finish().map_err(StoreError::BrokenChain)?;
    head.sequence = done.sequence;
    head.hash = done.head;
    head.signed = known.as_ref().map_or(0, |known| known.sequence);
    if head.signed.saturating_add(1) < head.checkpoint {
        // A checkpoint and the memory of it are written together.
        return Err(broken(head.checkpoint, BreakKind::Forgotten));
    }
    let foreign = |known: &Checkpoint| known.check(keys) == SignatureCheck::UnknownKey;
    head.foreign = known.as_ref().is_some_and(foreign);
    if head.foreign {
        tracing::warn!(target: "AUDIT", component = "Checkpoint", sequence = head.signed,
            "the last checkpoint names a key that is not ours: the events before it are taken as they are");
    }
    Ok(head)
}

fn broken(sequence: i64, kind: BreakKind) -> StoreError {
    StoreError::BrokenChain(Break { sequence, kind })
}
