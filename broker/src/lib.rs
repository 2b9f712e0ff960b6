//! The AgentWrit token broker: issues short-lived, scoped, individually revocable tokens to agents.
//!
//! http (extractors, handlers, problems) → service (the rules) → store (traits; SQLite behind them), with limits
//! and metrics beside; attestation and tokens are crates of their own. `process` puts it all together and runs it. Time
//! and randomness are passed in.
#![deny(missing_docs)]

pub mod broker;
pub mod config;

pub mod http;
pub mod ids;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod passwords;
pub mod process;
pub mod service;
pub mod system;
#[cfg(test)]
mod testing;
