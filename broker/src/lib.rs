//! The AgentWrit token broker: issues short-lived, scoped, individually revocable tokens to agents.
//!
//! http (extractors, handlers, problems) → service (the rules) → store (traits; SQLite behind them), with limits
//! and metrics beside; attestation and tokens are crates of their own. `process` puts it all together and runs it. Time
//! and randomness are passed in.
#![deny(missing_docs)]

pub mod broker;
mod clock;
pub mod config;
mod file_names;
pub mod hashed_secrets;
pub mod http;
pub mod ids;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod process;
pub mod retention;
pub mod service;
pub mod store;
mod store_surroundings;
pub mod system;
#[cfg(test)]
mod testing;
pub mod timestamp;

pub use process::{assemble as startup, housekeeping as background, listeners as server};

pub use agentwrit_tokens::{key_set as keys, nonce, verifier as verify};

/// What has been revoked, as far as memory knows.
pub mod view {
    pub use agentwrit_protocol::revocation_change::ViewChange;
    pub use agentwrit_protocol::session::TokenState;
    pub use agentwrit_tokens::revocation_view::View;
}

/// Attestation of pods, a crate of its own (`broker/attest`).
pub mod attest {
    pub use agentwrit_attest::*;
    pub use agentwrit_protocol::k8s::DenialKind;
}
