//! How one replica comes to lead, and what only the leader does.

pub mod broker_sync;
pub mod denials;
pub mod duties;
pub mod leadership;
pub mod lease;
mod lease_step;
