//! The AgentWrit controller: reconciles `AgentApp` and `LaunchToken` into broker policy, ends the authority of pods
//! that ended, owns the installation's keys and certificates, and serves the admission webhook that injects the
//! sidecar. All replicas serve the webhook; one, by Lease, writes.
#![deny(missing_docs)]

mod backoff;
pub mod broker;
pub mod ca;
pub mod condition;
pub mod config;
pub mod denials;
pub mod desired;
mod http;
pub mod leader;
pub mod lease;
pub mod metrics;
pub mod ops;
pub mod pki;
pub mod pods;
pub mod reconcile;
pub mod report;
pub mod run;
mod token_size;
pub mod watches;
pub mod webhook;

pub use config::{Config, LogFormat};
pub use run::{Addresses, RunError, System, run};
