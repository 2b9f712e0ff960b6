//! Writing the trail, as a command does it.

use super::{Asker, DenialDraft, DenialGate, EventDraft};

/// The audit trail of one transaction: drafts go in, and the commit numbers, dates, chains and signs them in this order.
pub trait AuditSink {
    /// Appends an event to the chain with this transaction: both are committed, or neither is.
    fn audit(&mut self, draft: EventDraft);

    /// Which denials the trail holds.
    fn gate(&self) -> &dyn DenialGate;

    /// Appends a denial, unless this asker has had so many of late that it is only counted.
    fn deny(&mut self, asker: Asker<'_>, denial: DenialDraft) {
        if let Some(event) = denial.through(self.gate(), asker) {
            self.audit(event);
        }
    }
}
