//! What the parts of the store share.

use std::ops::Deref;
use std::time::Duration;

use agentwrit_protocol::{Clock, UnixMillis};
use agentwrit_store::Surroundings;
use agentwrit_trail::{Base, Opening, Terms};

use crate::audit::events::cost;
use crate::feed::View;
use crate::held::KnownHeld;
use crate::options::OpenOptions;
use crate::settings::Settings;
use crate::status::StoreStatus;

/// Options, surroundings and state of one store.
pub(crate) struct Shared {
    base: Base,
    pub(crate) settings: Settings,
    pub(crate) status: StoreStatus,
    pub(crate) view: View,
    pub(crate) held: KnownHeld,
    /// One asks the store for all that wait.
    pub(crate) asking: tokio::sync::Mutex<()>,
}

impl Deref for Shared {
    type Target = Base;

    fn deref(&self) -> &Base {
        &self.base
    }
}

impl Shared {
    /// Of a store that isn't open.
    pub(crate) fn new(options: OpenOptions, surroundings: Surroundings) -> Self {
        let opening = Opening {
            mark: &options.mark,
            key_is_new: options.key_is_new,
            max_ttl: options.max_ttl,
            retention: &options.retention,
            installation: &options.installation,
            declared: &options.declared,
        };
        Self {
            held: KnownHeld::new(surroundings.status_lists),
            base: Base::new(&opening, surroundings),
            settings: options.settings,
            status: StoreStatus::default(),
            view: View::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// What events are sealed by.
    pub(crate) fn terms(&self) -> Terms<'_> {
        self.base.terms(cost)
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
