//! Walks the chain, event by event, to the first that doesn't fit.
//!
//! ```
//! # use agentwrit_protocol::audit::{AuditEvent, ChainWalker, GENESIS_HASH, SignatureCheck, Step};
//! # let mut event = AuditEvent::default();
//! # event.seal(1, GENESIS_HASH);
//! # let events = [event];
//! let keys = |_kid: &str, _message: &str, _signature: &str| SignatureCheck::UnknownKey;
//! let mut walker = ChainWalker::from_start();
//! for event in &events {
//!     assert_eq!(walker.feed(event, &keys), Ok(Step::Event));
//! }
//! assert_eq!(walker.finish().unwrap().sequence, 1);
//! ```

use std::fmt;

use super::{AuditEvent, Checkpoint, CheckpointError, CheckpointKeys, EventType, GENESIS_HASH, MAX_UNSIGNED};
use super::{SignatureCheck, event::claimed_ext_hash};
use crate::go_json;

/// The first thing that doesn't fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// Number that the event should have.
    pub sequence: i64,
    /// What is wrong.
    pub kind: BreakKind,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", AuditEvent::id_for(self.sequence), self.kind)
    }
}

impl std::error::Error for Break {}

/// What can be wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BreakKind {
    /// The text is no event.
    #[error("its text is no event: {0}")]
    Unreadable(String),
    /// The text holds more than the event, or spells it in another way.
    #[error("its text is not exactly that of an event")]
    Spelling,
    /// Another event stands in its place.
    #[error("{0:?} stands in its place")]
    Id(String),
    /// `hash`.
    #[error("its hash is not that of its content")]
    Hash,
    /// `prev_hash`.
    #[error("it does not follow the event before")]
    PrevHash,
    /// The extra fields.
    #[error("its extra fields are not those of its ext_hash")]
    ExtHash,
    /// A checkpoint's detail.
    #[error("{0}")]
    Checkpoint(CheckpointError),
    /// A checkpoint of another event than the one before it.
    #[error("it is a checkpoint of other events")]
    CheckpointSubject,
    /// A checkpoint's signature.
    #[error("its signature is not that of the key it names")]
    Signature,
    /// Too many events without a checkpoint.
    #[error("it should be a checkpoint: the last one is too long ago")]
    NoCheckpoint,
    /// A checkpoint that is known from elsewhere says something else.
    #[error("its hash is not the one that was signed at {0}")]
    Statement(String),
    /// A checkpoint that the place where it was noted knows nothing of.
    #[error("it is a checkpoint that was not noted, though later than the one that was")]
    Forgotten,
    /// A checkpoint that is known from elsewhere covers more events.
    #[error("it is missing, although it was signed at {0}: the end of the trail was cut off")]
    Truncated(String),
}

/// What an event was, when it fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An ordinary event.
    Event,
    /// A checkpoint whose signature was checked.
    Signed,
    /// A checkpoint of a key that isn't known: it can't be told from a forged one.
    UnknownKey,
}

/// What was walked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Number of the last event; 0 before the first.
    pub sequence: i64,
    /// Its hash.
    pub head: String,
    /// Events that were walked.
    pub events: i64,
    /// The last checkpoint whose signature was checked.
    pub signed: Option<Checkpoint>,
    /// The last checkpoint of an unknown key, if any.
    pub unknown: Option<Checkpoint>,
}

/// Where the walk has come to.
#[derive(Debug, Clone)]
pub struct ChainWalker {
    done: Summary,
    /// Whether the next event has to prove by its signature what comes before it.
    anchor: bool,
    /// Number of the last checkpoint.
    last_checkpoint: i64,
    expected: Option<Checkpoint>,
}

impl ChainWalker {
    /// From the first event.
    pub fn from_start() -> Self {
        Self::new(false)
    }

    /// From the event of a checkpoint, which stands for all that is before it.
    pub fn from_checkpoint() -> Self {
        Self::new(true)
    }

    fn new(anchor: bool) -> Self {
        let done = Summary {
            sequence: 0,
            head: GENESIS_HASH.to_owned(),
            events: 0,
            signed: None,
            unknown: None,
        };
        Self {
            done,
            anchor,
            last_checkpoint: 0,
            expected: None,
        }
    }

    /// With a checkpoint that is known from elsewhere, its signature checked: the walk has to come across what it
    /// covers. One that covers less than the place where the walk starts says nothing.
    #[must_use]
    pub fn expecting(mut self, checkpoint: Checkpoint) -> Self {
        self.expected = Some(checkpoint);
        self
    }

    /// The next event.
    ///
    /// # Errors
    /// When it doesn't fit; the walk is over then.
    pub fn feed(&mut self, event: &AuditEvent, keys: &dyn CheckpointKeys) -> Result<Step, Break> {
        let sequence = if self.anchor {
            self.start_at(event)?
        } else {
            self.done.sequence.saturating_add(1)
        };
        self.fits(sequence, event, keys)
            .map_err(|kind| Break { sequence, kind })
    }

    /// The next event as its JSON text, which has to be the only spelling of it.
    ///
    /// # Errors
    /// As for [`ChainWalker::feed`].
    pub fn feed_json(&mut self, text: &str, keys: &dyn CheckpointKeys) -> Result<Step, Break> {
        let here = |kind| Break {
            sequence: self.done.sequence.saturating_add(1),
            kind,
        };
        let event: AuditEvent =
            serde_json::from_str(text).map_err(|error| here(BreakKind::Unreadable(error.to_string())))?;
        if go_json::to_string(&event).ok().as_deref() != Some(text) {
            return Err(here(BreakKind::Spelling));
        }
        self.feed(&event, keys)
    }

    /// Number of the last event that fitted.
    pub fn sequence(&self) -> i64 {
        self.done.sequence
    }

    /// The end of the trail.
    ///
    /// # Errors
    /// When the expected checkpoint covers more than that.
    pub fn finish(self) -> Result<Summary, Break> {
        match self.expected {
            Some(expected) if expected.sequence > self.done.sequence => Err(Break {
                sequence: self.done.sequence.saturating_add(1),
                kind: BreakKind::Truncated(expected.timestamp),
            }),
            _ => Ok(self.done),
        }
    }

    /// Takes the place of the first event from itself; its signature has to hold it.
    fn start_at(&mut self, event: &AuditEvent) -> Result<i64, Break> {
        let sequence = AuditEvent::sequence_of(&event.id).unwrap_or_default();
        let broken = |kind| Break { sequence, kind };
        let checkpoint = Checkpoint::from_event(event).map_err(|error| broken(BreakKind::Checkpoint(error)))?;
        if let Some(expected) = &self.expected
            && expected.sequence == checkpoint.sequence
            && expected.head != checkpoint.head
        {
            return Err(broken(BreakKind::Statement(expected.timestamp.clone())));
        }
        self.anchor = false;
        self.last_checkpoint = checkpoint.sequence.saturating_add(1);
        self.done.sequence = checkpoint.sequence;
        self.done.head = checkpoint.head;
        Ok(self.last_checkpoint)
    }

    fn fits(&mut self, sequence: i64, event: &AuditEvent, keys: &dyn CheckpointKeys) -> Result<Step, BreakKind> {
        if event.id != AuditEvent::id_for(sequence) {
            return Err(BreakKind::Id(event.id.clone()));
        }
        if event.prev_hash != self.done.head {
            return Err(BreakKind::PrevHash);
        }
        if event.hash != event.compute_hash() {
            return Err(BreakKind::Hash);
        }
        if event.extra.hash().as_deref() != claimed_ext_hash(&event.detail) {
            return Err(BreakKind::ExtHash);
        }
        let step = self.checkpoint(sequence, event, keys)?;
        if let Some(expected) = &self.expected
            && expected.sequence == sequence
            && expected.head != event.hash
        {
            return Err(BreakKind::Statement(expected.timestamp.clone()));
        }
        self.done.sequence = sequence;
        self.done.head.clone_from(&event.hash);
        self.done.events = self.done.events.saturating_add(1);
        Ok(step)
    }

    fn checkpoint(&mut self, sequence: i64, event: &AuditEvent, keys: &dyn CheckpointKeys) -> Result<Step, BreakKind> {
        if event.event_type != EventType::AuditCheckpoint.as_str() {
            let unsigned = sequence.saturating_sub(self.last_checkpoint);
            return if unsigned > MAX_UNSIGNED {
                Err(BreakKind::NoCheckpoint)
            } else {
                Ok(Step::Event)
            };
        }
        let checkpoint = Checkpoint::from_event(event).map_err(BreakKind::Checkpoint)?;
        if checkpoint.sequence != self.done.sequence || checkpoint.head != self.done.head {
            return Err(BreakKind::CheckpointSubject);
        }
        self.last_checkpoint = sequence;
        match checkpoint.check(keys) {
            SignatureCheck::Valid => {
                self.done.signed = Some(checkpoint);
                Ok(Step::Signed)
            }
            SignatureCheck::UnknownKey => {
                self.done.unknown = Some(checkpoint);
                Ok(Step::UnknownKey)
            }
            SignatureCheck::Invalid => Err(BreakKind::Signature),
        }
    }
}

#[cfg(test)]
mod tests;
