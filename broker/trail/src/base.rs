//! What the parts of a store share, whichever store it is.

use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use agentwrit_protocol::Ttl;
use agentwrit_store::segment::Retention;
use agentwrit_store::{Declared, Installation, PutBack, Surroundings};
use tokio::sync::Notify;

use crate::{FilterCache, MarkFile, SealedEvent, Terms};

/// How a store is to be opened, as far as that is the same for each.
pub struct Opening<'o> {
    /// The file outside the store that remembers where it stood.
    pub mark: &'o Path,
    /// Whether the signing key was made just now, so that no store can have been beside it before.
    pub key_is_new: bool,
    /// `AA_MAX_TTL`; 0 = no bound.
    pub max_ttl: Ttl,
    /// How long the audit trail is kept.
    pub retention: &'o Retention,
    /// Whose brokers these are.
    pub installation: &'o Installation,
    /// What a person says at this start.
    pub declared: &'o Declared,
}

/// What is around a store, and how it was opened.
pub struct Base {
    around: Surroundings,
    /// What is known of the filters that were asked for last.
    pub matches: FilterCache,
    /// `AA_MAX_TTL`; 0 = no bound.
    pub max_ttl: Ttl,
    /// The file outside the store that remembers where it stood.
    pub mark: MarkFile,
    /// How long the audit trail is kept.
    pub retention: Retention,
    /// Wakes the task that exports and drops segments.
    pub sealed: Notify,
    /// Whose brokers these are.
    pub installation: Installation,
    /// Whether a person has said that the store was put back from a copy, and it has not been opened since.
    pub restored: AtomicBool,
    /// What that person has said.
    pub put_back: PutBack,
    /// Whether a person says that the store has moved to them; once.
    pub adopts: AtomicBool,
    /// Whether a person says that the wall clock is right; once.
    pub accept_clock: AtomicBool,
    /// Whether no store can have been beside this signing key before.
    pub first: AtomicBool,
}

impl Deref for Base {
    type Target = Surroundings;

    fn deref(&self) -> &Surroundings {
        &self.around
    }
}

impl Base {
    /// Of a store that isn't open.
    pub fn new(opening: &Opening<'_>, surroundings: Surroundings) -> Self {
        Self {
            around: surroundings,
            matches: FilterCache::default(),
            max_ttl: opening.max_ttl,
            mark: MarkFile::at(opening.mark),
            retention: opening.retention.clone(),
            sealed: Notify::new(),
            installation: opening.installation.clone(),
            put_back: opening.declared.restored,
            restored: AtomicBool::new(opening.declared.restored.is_said()),
            adopts: AtomicBool::new(opening.declared.adopt_installation),
            accept_clock: AtomicBool::new(opening.declared.accept_clock),
            first: AtomicBool::new(opening.key_is_new),
        }
    }

    /// What events are sealed by, on a store where their rows take so much.
    pub fn terms(&self, cost: fn(&SealedEvent) -> i64) -> Terms<'_> {
        Terms {
            signer: self.signer.as_ref(),
            cut: self.retention.cut(),
            cost,
        }
    }
}
