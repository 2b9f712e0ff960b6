//! How the end of the chain is checked at start.

use agentwrit_protocol::UnixNanos;
use agentwrit_protocol::audit::{
    AuditEvent, Break, BreakKind, ChainWalker, Checkpoint, CheckpointKeys, EventType, SignatureCheck, Step,
};
use agentwrit_store::{Result, StoreError};

use crate::chain::ChainHead;

/// The statement that a store was left with, from its text.
///
/// # Errors
/// When the text is none.
pub fn checkpoint_from_text(text: &str) -> Result<Checkpoint> {
    serde_json::from_str(text).map_err(|error| malformed(&error))
}

/// The text of a statement, by which the next start knows how long the trail was.
///
/// # Errors
/// When it can't be written as JSON.
pub fn checkpoint_text(checkpoint: &Checkpoint) -> Result<String> {
    serde_json::to_string(checkpoint).map_err(|error| malformed(&error))
}

fn malformed(error: &serde_json::Error) -> StoreError {
    StoreError::Corrupt {
        what: "audit checkpoint",
        why: error.to_string(),
    }
}

/// One row of the trail.
pub struct Row {
    /// Its number.
    pub sequence: i64,
    /// When it was.
    pub at: UnixNanos,
    /// Its text.
    pub json: String,
}

/// The rows since the last checkpoint, that one included; all of them when there is none. Never more than may stand
/// between two checkpoints, and one: an implementation reads `MAX_UNSIGNED + 1` of them from the end.
#[derive(Default)]
pub struct Tail {
    rows: Vec<Row>,
    anchored: bool,
}

impl Tail {
    /// Takes the next row from the end; false when the one that was taken is a checkpoint, and no more are needed.
    pub fn push(&mut self, row: Row, event_type: &str) -> bool {
        self.rows.push(row);
        self.anchored = event_type == EventType::AuditCheckpoint.as_str();
        !self.anchored
    }

    /// Verifies the chain since its last checkpoint, against what was signed last, and returns its head, with nothing
    /// in it of what is kept.
    ///
    /// # Errors
    /// [`StoreError::BrokenChain`] naming the first event that doesn't fit, or the first that is missing at the end.
    pub fn verify(mut self, known: Option<&Checkpoint>, keys: &dyn CheckpointKeys) -> Result<ChainHead> {
        if let Some(known) = known
            && known.check(keys) == SignatureCheck::Invalid
        {
            return Err(broken(known.sequence, BreakKind::Signature));
        }
        self.rows.reverse();
        if let (false, Some(first), Some(last)) = (self.anchored, self.rows.first(), self.rows.last())
            && first.sequence != 1
        {
            return Err(broken(last.sequence, BreakKind::NoCheckpoint));
        }
        let walker = if self.anchored {
            ChainWalker::from_checkpoint()
        } else {
            ChainWalker::from_start()
        };
        let mut walker = known.into_iter().cloned().fold(walker, ChainWalker::expecting);
        let mut head = ChainHead::default();
        for row in self.rows {
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
        head.signed = known.map_or(0, |known| known.sequence);
        if head.signed.saturating_add(1) < head.checkpoint {
            // A checkpoint and the memory of it are written together.
            return Err(broken(head.checkpoint, BreakKind::Forgotten));
        }
        head.foreign = known.is_some_and(|known| known.check(keys) == SignatureCheck::UnknownKey);
        if head.foreign {
            tracing::warn!(target: "AUDIT", component = "Checkpoint", sequence = head.signed,
                "the last checkpoint names a key that is not ours: the events before it are taken as they are");
        }
        Ok(head)
    }
}

fn broken(sequence: i64, kind: BreakKind) -> StoreError {
    StoreError::BrokenChain(Break { sequence, kind })
}
