//! The chain's head, and what a batch appends to it.

use agentwrit_protocol::audit::{AuditEvent, Checkpoint, EventType, GENESIS_HASH, MAX_UNSIGNED, Outcome};
use agentwrit_protocol::timestamp::rfc3339_nanos;
use agentwrit_protocol::{StoreMark, UnixNanos};
use agentwrit_store::segment::{Cut, Segment};
use agentwrit_store::{CheckpointSigner, EventDraft, Result, SignedStatement, StoreError};
use time::{Duration, OffsetDateTime};

use crate::event::{SealedEvent, text};
use crate::kept::Kept;

/// Events that stay without a checkpoint for so long get one, however few they are.
const LONGEST_UNSIGNED: Duration = Duration::HOUR;

/// The last event of the chain, and what is signed of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainHead {
    /// Its number; 0 before the first.
    pub sequence: i64,
    /// Its hash.
    pub hash: String,
    /// Number of the last checkpoint; 0 before the first.
    pub checkpoint: i64,
    /// Number of the last event that the last signed statement covers.
    pub signed: i64,
    /// When the first event after the last checkpoint was.
    pub unsigned_since: Option<UnixNanos>,
    /// Whether the last checkpoint is of a key that is gone.
    pub foreign: bool,
    /// What is kept of the trail that it is the end of.
    pub kept: Kept,
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

/// What a batch is sealed by.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// Signs checkpoints.
    pub signer: &'a dyn CheckpointSigner,
    /// Where segments are cut.
    pub cut: Cut,
    /// What the row of an event takes on this store, about.
    pub cost: fn(&SealedEvent) -> i64,
}

/// What a batch appends.
#[derive(Default)]
pub struct Links {
    /// The head after it.
    pub head: ChainHead,
    /// The events, in order.
    pub events: Vec<SealedEvent>,
    /// The last checkpoint among them.
    pub checkpoint: Option<Checkpoint>,
    /// Segments that end with them.
    pub sealed: Vec<Segment>,
}

impl ChainHead {
    /// Where a store of this epoch stands with this head.
    pub fn mark(&self, epoch: String) -> StoreMark {
        StoreMark {
            epoch,
            sequence: self.sequence,
            head: self.hash.clone(),
        }
    }

    /// Events that are kept.
    pub fn events(&self) -> i64 {
        self.sequence.saturating_add(1).saturating_sub(self.kept.first)
    }

    /// Whether there is anything that no statement covers.
    pub fn unsigned(&self) -> bool {
        self.signed < self.sequence
    }

    /// A signed statement about everything up to this head.
    ///
    /// # Errors
    /// When it can't be signed.
    pub fn statement(&self, now: OffsetDateTime, signer: &dyn CheckpointSigner) -> Result<Checkpoint> {
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
///
/// # Errors
/// When a checkpoint can't be signed.
pub fn seal(
    head: &ChainHead,
    drafts: Vec<(OffsetDateTime, EventDraft)>,
    now: OffsetDateTime,
    terms: Terms<'_>,
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
        if links.head.full() || links.head.kept.is_due(terms.cut, at.into()) {
            links.sign(at, terms)?;
        }
        links.append(at, event(draft), terms)?;
    }
    if announces_key || links.head.overdue(now) || links.head.kept.is_due(terms.cut, now.into()) {
        links.sign(now, terms)?;
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
    pub fn event_types(&self) -> Vec<&str> {
        let types = self.events.iter().map(|sealed| sealed.event.event_type.as_str());
        types.collect()
    }

    fn append(&mut self, at: OffsetDateTime, mut event: AuditEvent, terms: Terms<'_>) -> Result<()> {
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
        let cost = (terms.cost)(&sealed);
        self.head.kept.appended(at, cost, &self.head.hash);
        self.events.push(sealed);
        Ok(())
    }

    /// Appends a checkpoint; when a segment is due to be sealed, the next begins with it.
    fn sign(&mut self, at: OffsetDateTime, terms: Terms<'_>) -> Result<()> {
        let checkpoint = self.head.statement(at, terms.signer)?;
        if self.head.kept.is_due(terms.cut, at.into()) {
            let segment = self.head.kept.seal(self.head.sequence, &self.head.hash);
            self.sealed.push(segment);
        }
        let event = AuditEvent {
            event_type: EventType::AuditCheckpoint.as_str().to_owned(),
            outcome: Outcome::Success.as_str().to_owned(),
            detail: checkpoint.detail(),
            ..AuditEvent::default()
        };
        self.append(at, event, terms)?;
        self.head.signed = checkpoint.sequence;
        self.head.checkpoint = self.head.sequence;
        self.head.unsigned_since = None;
        self.head.foreign = false;
        self.checkpoint = Some(checkpoint);
        Ok(())
    }
}

/// Writes the length of the trail into the log, which is kept elsewhere than the store.
pub fn log_checkpoint(checkpoint: &Checkpoint) {
    tracing::info!(target: "AUDIT", component = "Checkpoint", sequence = checkpoint.sequence, head = checkpoint.head,
        kid = checkpoint.kid, signature = checkpoint.signature, "audit trail signed");
}
