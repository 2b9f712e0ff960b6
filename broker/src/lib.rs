//! The AgentWrit token broker: issues short-lived, scoped, individually revocable tokens to agents.
//!
//! http (extractors, handlers, problems) → service (the rules) → store (traits; SQLite behind them), with keys, verify,
//! view, limits and metrics beside; attestation is a crate of its own. Time and randomness are passed in.
#![deny(missing_docs)]

pub mod background;
pub mod broker;
mod clock;
pub mod config;
mod file_names;
pub mod hashed_secrets;
pub mod http;
pub mod keys;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod nonce;
mod reload;
pub mod retention;
pub mod run;
pub mod server;
pub mod service;
pub mod startup;
pub mod store;
pub mod system;
#[cfg(test)]
mod testing;
pub mod timestamp;
pub mod verify;
pub mod view;

/// Attestation of pods, a crate of its own (`broker/attest`).
pub mod attest {
    pub use agentwrit_attest::*;
    pub use agentwrit_protocol::k8s::DenialKind;
}
