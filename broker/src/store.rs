//! The store: traits and types of `agentwrit-store`, and the embedded implementation.

/// Former path of the audit trail's types.
pub use agentwrit_store::audit as ledger;
pub use agentwrit_store::*;
pub use agentwrit_store_sqlite as sqlite;
pub use agentwrit_store_sqlite::READERS;
