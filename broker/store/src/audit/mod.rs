//! The audit trail: what goes in (drafts, and denials that pass the gate), and queries.

mod denial;
mod draft;
mod query;
mod sink;

pub use denial::{Asker, DenialGate};
pub use draft::{Audited, DenialDraft, Denied, Draft, EventDraft};
pub use query::{AuditQuery, EventFilter, EventPage, FilterColumn};
pub use sink::AuditSink;
