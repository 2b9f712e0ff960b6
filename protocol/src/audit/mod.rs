//! The audit trail: event, hash chain, signed checkpoints, sanitiser (`docs/wire-contract.md` §15,
//! `docs/kubernetes-api.md` §4 "Audit").

mod bounds;
mod checkpoint;
mod dropped;
mod event;
mod event_type;
mod sanitise;
mod walker;

pub use bounds::{MAX_EVENT_BYTES, agent_as_audited};
pub use checkpoint::{Checkpoint, CheckpointError, CheckpointKeys, MAX_UNSIGNED, SignatureCheck, SignedStatement};
pub use dropped::{DropRule, DroppedSegment, ExportedFile};
pub use event::{AuditEvent, ExtraFields};
pub use event_type::{EventType, Outcome};
pub use sanitise::{REDACTED, sanitise};
pub use walker::{Break, BreakKind, ChainWalker, Step, Summary};

/// `prev_hash` of the first event.
pub const GENESIS_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";
