//! The audit trail: the chain's head, the rows of its events and segments, and queries.

pub(crate) mod events;
pub(crate) mod head;
pub(crate) mod query;
