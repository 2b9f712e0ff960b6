//! What the parts of the store share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use agentwrit_protocol::status_list::Bounds;
use agentwrit_protocol::{Clock, Entropy, JudgingClock, Ttl};
use agentwrit_store::segment::Retention;
use agentwrit_store::{CheckpointSigner, DenialGate, Installation, RevocationListener, StoreObserver, Surroundings};
use agentwrit_trail::{FilterCache, MarkFile, Terms};
use tokio::sync::Notify;

use super::options::OpenOptions;
use super::status::StoreStatus;
use crate::audit::events::cost;
use crate::disk::memory_run::MemoryRun;

/// Options, surroundings and state of one store.
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) judging: Arc<JudgingClock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) signer: Arc<dyn CheckpointSigner>,
    pub(crate) observer: Arc<dyn StoreObserver>,
    pub(crate) revocations: Arc<dyn RevocationListener>,
    pub(crate) gate: Arc<dyn DenialGate>,
    pub(crate) status_lists: Bounds,
    pub(crate) status: StoreStatus,
    pub(crate) matches: FilterCache,
    pub(crate) max_ttl: Ttl,
    pub(crate) memory_run: MemoryRun,
    pub(crate) mark: MarkFile,
    pub(crate) retention: Retention,
    /// Wakes the task that exports and drops segments.
    pub(crate) sealed: Notify,
    /// Whether a person has said that the store was put back from a copy, and it has not been opened since.
    pub(crate) restored: AtomicBool,
    /// Whose brokers these are.
    pub(crate) installation: Installation,
    /// Whether a person says that the store has moved to them; once.
    pub(crate) adopts: AtomicBool,
    /// Whether a person says that the wall clock is right; once.
    pub(crate) accept_clock: AtomicBool,
    /// Whether no store can have been beside this signing key before.
    pub(crate) first: AtomicBool,
}

impl Shared {
    /// Of a store that isn't open.
    pub(super) fn new(options: &OpenOptions, surroundings: Surroundings) -> Self {
        let Surroundings {
            clock,
            judging,
            entropy,
            signer,
            observer,
            revocations,
            gate,
            // The machine's clock is the store's.
            reference: _,
            status_lists,
        } = surroundings;
        Self {
            clock,
            judging,
            entropy,
            signer,
            status: StoreStatus::new(Arc::clone(&observer)),
            observer,
            revocations,
            gate,
            status_lists,
            matches: FilterCache::default(),
            max_ttl: options.max_ttl,
            memory_run: MemoryRun::beside(&options.signing_key, &options.location),
            mark: MarkFile::at(&options.mark),
            retention: options.retention.clone(),
            sealed: Notify::new(),
            restored: AtomicBool::new(options.declared.restored),
            installation: options.installation.clone(),
            adopts: AtomicBool::new(options.declared.adopt_installation),
            accept_clock: AtomicBool::new(options.declared.accept_clock),
            first: AtomicBool::new(options.key_is_new),
        }
    }

    /// What events are sealed by.
    pub(crate) fn terms(&self) -> Terms<'_> {
        Terms {
            signer: self.signer.as_ref(),
            cut: self.retention.cut(),
            cost,
        }
    }
}
