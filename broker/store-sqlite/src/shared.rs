//! What the parts of the store share.

use std::ops::Deref;
use std::sync::Arc;

use agentwrit_store::Surroundings;
use agentwrit_trail::{Base, Opening, Terms};

use super::options::OpenOptions;
use super::status::StoreStatus;
use crate::audit::events::cost;
use crate::disk::memory_run::MemoryRun;

/// Options, surroundings and state of one store. The machine's clock is its clock.
pub(crate) struct Shared {
    base: Base,
    pub(crate) status: StoreStatus,
    pub(crate) memory_run: MemoryRun,
}

impl Deref for Shared {
    type Target = Base;

    fn deref(&self) -> &Base {
        &self.base
    }
}

impl Shared {
    /// Of a store that isn't open.
    pub(super) fn new(options: &OpenOptions, surroundings: Surroundings) -> Self {
        let opening = Opening {
            mark: &options.mark,
            key_is_new: options.key_is_new,
            max_ttl: options.max_ttl,
            retention: &options.retention,
            installation: &options.installation,
            declared: &options.declared,
        };
        Self {
            status: StoreStatus::new(Arc::clone(&surroundings.observer)),
            base: Base::new(&opening, surroundings),
            memory_run: MemoryRun::beside(&options.signing_key, &options.location),
        }
    }

    /// What events are sealed by.
    pub(crate) fn terms(&self) -> Terms<'_> {
        self.base.terms(cost)
    }
}
