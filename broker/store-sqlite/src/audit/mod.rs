//! The audit trail: the chain of events, their rows, queries, and the segments in which it is kept and dropped.

pub(crate) mod events;
pub(crate) mod expanded;
pub(crate) mod query;
pub(crate) mod segments;
pub(crate) mod short;
pub(crate) mod tail;
