//! Who changes something, as its audit events have it.

use agentwrit_protocol::audit::EventType;
use agentwrit_store::EventDraft;

/// A person, or the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Actor {
    /// Subject of the bearer, or full username of the ServiceAccount.
    pub(crate) subject: String,
    /// Network address.
    pub(crate) source: String,
}

impl Actor {
    /// An event of what it did.
    pub(crate) fn event(&self, event_type: EventType, detail: String) -> EventDraft {
        self.attributed(EventDraft::success(event_type, detail))
    }

    /// The event, as of what it did.
    pub(crate) fn attributed(&self, event: EventDraft) -> EventDraft {
        event.actor(&self.subject).source(&self.source)
    }
}
