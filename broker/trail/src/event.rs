//! Events that are numbered and chained, and their text.

use agentwrit_protocol::audit::AuditEvent;
use agentwrit_protocol::{UnixNanos, go_json};
use agentwrit_store::{Result, StoreError};
use serde::Deserialize;

/// An event with its number and its hash, ready for its row.
pub struct SealedEvent {
    /// Its number.
    pub sequence: i64,
    /// When it was.
    pub at: UnixNanos,
    /// The event.
    pub event: AuditEvent,
    /// The event as it is served.
    pub json: String,
}

/// What a row of the trail is called when it holds what was never written.
pub fn corrupt(why: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt {
        what: "audit event",
        why: why.to_string(),
    }
}

/// The text of an event as it is served.
///
/// # Errors
/// When it can't be written as JSON.
pub fn text(event: &AuditEvent) -> Result<String> {
    go_json::to_string(event).map_err(corrupt)
}

/// `hash` of the event with this text.
///
/// # Errors
/// When the text is no event.
pub fn hash_in(json: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Hash {
        hash: String,
    }
    let event: Hash = serde_json::from_str(json).map_err(corrupt)?;
    Ok(event.hash)
}
