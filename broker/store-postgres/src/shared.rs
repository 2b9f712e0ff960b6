//! What the parts of the store share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use agentwrit_protocol::status_list::Bounds;
use agentwrit_protocol::{Clock, Entropy, JudgingClock, SteeredClock, Ttl, UnixMillis};
use agentwrit_store::segment::Retention;
use agentwrit_store::{CheckpointSigner, DenialGate, Installation, RevocationListener, StoreObserver, Surroundings};
use agentwrit_trail::{FilterCache, MarkFile, Terms};
use tokio::sync::Notify;

use crate::audit::events::cost;
use crate::feed::View;
use crate::options::OpenOptions;
use crate::settings::Settings;
use crate::status::StoreStatus;

/// Options, surroundings and state of one store.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) judging: Arc<JudgingClock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) signer: Arc<dyn CheckpointSigner>,
    pub(crate) observer: Arc<dyn StoreObserver>,
    pub(crate) revocations: Arc<dyn RevocationListener>,
    pub(crate) gate: Arc<dyn DenialGate>,
    pub(crate) reference: Option<Arc<SteeredClock>>,
    pub(crate) status_lists: Bounds,
    pub(crate) status: StoreStatus,
    pub(crate) view: View,
    /// One asks the store for all that wait.
    pub(crate) asking: tokio::sync::Mutex<()>,
    pub(crate) matches: FilterCache,
    pub(crate) max_ttl: Ttl,
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
    pub(crate) fn new(options: OpenOptions, surroundings: Surroundings) -> Self {
        let Surroundings {
            clock,
            judging,
            entropy,
            signer,
            observer,
            revocations,
            gate,
            reference,
            status_lists,
        } = surroundings;
        Self {
            clock,
            judging,
            entropy,
            signer,
            observer,
            revocations,
            gate,
            reference,
            status_lists,
            settings: options.settings,
            status: StoreStatus::default(),
            view: View::default(),
            asking: tokio::sync::Mutex::default(),
            matches: FilterCache::default(),
            max_ttl: options.max_ttl,
            mark: MarkFile::at(&options.mark),
            retention: options.retention,
            sealed: Notify::new(),
            restored: AtomicBool::new(options.declared.restored),
            installation: options.installation,
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

    /// Takes note of the database's time, which was asked for at this moment.
    pub(crate) fn hear_time(&self, database: UnixMillis, asked: Duration) {
        let Some(reference) = &self.reference else { return };
        if reference.hear(database, asked, self.clock.monotonic()) {
            // Nothing was judged by this machine's clock yet.
            self.judging.accept_wall();
        }
    }
}
