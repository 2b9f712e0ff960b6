//! The AgentWrit token broker: issues short-lived, scoped, individually revocable tokens to agents.
//!
//! http (extractors, handlers, problems) → service (the rules) → store (traits; SQLite behind them), with limits
//! and metrics beside; attestation and tokens are crates of their own. `process` puts it all together and runs it. Time
//! and randomness are passed in.
#![deny(missing_docs)]

pub mod broker;
pub mod config;
pub mod http;
mod ids;
mod metrics;
mod passwords;
pub mod process;
mod service;
pub mod system;
#[cfg(test)]
mod testing;

/// Parsers that the fuzz targets call without a request around them.
pub mod parsers {
    pub use crate::service::audit_query::filter;
    pub use crate::service::k8s::policy::input::{InputError, Write, parse_scope};
}
