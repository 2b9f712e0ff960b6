//! The status of the store, which can be read at any time.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use agentwrit_protocol::{StoreMark, UnixSeconds};
use agentwrit_store::StoreError;
use agentwrit_trail::ChainHead;
use parking_lot::RwLock;

/// Why the store is not open, and what to do about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure {
    pub(crate) kind: &'static str,
    pub(crate) advice: Option<&'static str>,
}

/// The status of the store, which can be read at any time.
#[derive(Default)]
pub(crate) struct StoreStatus {
    pub(crate) open: AtomicBool,
    pub(crate) events: AtomicI64,
    /// Its mark; the epoch is empty before it was open.
    mark: RwLock<StoreMark>,
    /// Epoch of a store that this process made; empty when there is none.
    pub(crate) made: RwLock<String>,
    pub(crate) failure: RwLock<Option<Failure>>,
    min_iat: AtomicI64,
    /// Whether only what takes authority away is done, since the trail can't be exported and nothing may be dropped.
    pub(crate) refusing: AtomicBool,
}

impl StoreStatus {
    /// Tokens that were issued before are refused.
    pub(crate) fn min_iat(&self) -> UnixSeconds {
        UnixSeconds::new(self.min_iat.load(Ordering::SeqCst))
    }

    pub(crate) fn set_min_iat(&self, min_iat: UnixSeconds) {
        self.min_iat.store(min_iat.get(), Ordering::SeqCst);
    }

    /// Takes note that the store is open.
    pub(crate) fn opened(&self) {
        *self.failure.write() = None;
        self.open.store(true, Ordering::SeqCst);
    }

    /// Takes note of the mark of the store in this epoch. It never goes back within one: a store that has is put back from a
    /// copy, and must not pass for the one that it was.
    pub(crate) fn stands(&self, epoch: String, head: &ChainHead) {
        let mut mark = self.mark.write();
        if mark.epoch == epoch && head.sequence < mark.sequence {
            return;
        }
        self.events.store(head.events(), Ordering::SeqCst);
        *mark = head.mark(epoch);
    }

    /// Takes note of what was appended.
    pub(crate) fn advanced(&self, head: &ChainHead) {
        let epoch = self.mark.read().epoch.clone();
        self.stands(epoch, head);
    }

    /// The mark of the store.
    pub(crate) fn mark(&self) -> StoreMark {
        self.mark.read().clone()
    }

    pub(crate) fn failed(&self, error: &StoreError) {
        *self.failure.write() = Some(Failure {
            kind: error.kind(),
            advice: error.advice(),
        });
        self.open.store(false, Ordering::SeqCst);
    }
}
