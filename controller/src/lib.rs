//! The AgentWrit controller: reconciles `AgentApp` and `LaunchToken` into broker policy, ends the authority of pods
//! that ended, owns the installation's keys and certificates, and serves the admission webhook that injects the
//! sidecar. All replicas serve the webhook; one, by Lease, writes.
#![deny(missing_docs)]

mod backoff;
mod config;
mod context;
mod credentials;
mod ending_namespaces;
mod http;
mod kubernetes_time;
mod leader;
mod metrics;
mod pki;
mod pod_end;
mod policy_client;
mod reconcile;
mod report;
mod run;
mod webhook;

pub use config::{Config, LogFormat};
pub use run::{Addresses, RunError, System, run};

// For the tests beside the crate: the webhook's memory, and keys and Lease with a real API server.
pub use leader::leadership::{Claim, Leadership};
pub use leader::lease::{Elector, MARK_ANNOTATION};
pub use metrics::Metrics;
pub use pki::authority::{Authority, Lives, PemPair};
pub use pki::secrets::Secrets;
pub use report::Reporter;
pub use webhook::tls::Leaf;
pub use webhook::{
    CpuQuotas, Namespaces, PATH as WEBHOOK_PATH, SidecarSettings, StartGate, Webhook, router as webhook_router,
};
