//! The AgentWrit controller: reconciles `AgentApp` and `LaunchToken` into broker policy, ends the authority of pods
//! that ended, owns the installation's keys and certificates, and serves the admission webhook that injects the
//! sidecar. All replicas serve the webhook; one, by Lease, writes.
#![deny(missing_docs)]

mod backoff;
pub mod config;
mod context;
mod http;
pub mod leader;
pub mod metrics;
pub mod pki;
pub mod pod_end;
pub mod policy_client;
pub mod reconcile;
pub mod report;
pub mod run;
pub mod webhook;

pub use config::{Config, LogFormat};
pub use run::{Addresses, RunError, System, run};
