//! What only the leader does, and how one replica comes to lead.

pub mod broker_sync;
pub mod denials;
pub mod lease;
