//! Typed HTTP client of the AgentWrit broker, on hyper and hyper-rustls.
//!
//! Every call has a deadline and a bound on the answer's size, and fails with an [`Error`]. Every failure falls into
//! one of three [`Class`]es: try again, wait, or give up on this request. Tokens never show in `Debug` output or in
//! errors.
//!
//! ```no_run
//! use agentwrit_client::{BrokerClient, ClientConfig, Identity, Trust};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = BrokerClient::new(ClientConfig {
//!     trust: Trust::File("/var/run/secrets/agentwrit.io/identity/ca.crt".into()),
//!     identity: Some(Identity::File("/var/run/secrets/agentwrit.io/identity/token".into())),
//!     ..ClientConfig::new("https://agentwrit-broker.agentwrit-system.svc:8443")
//! })?;
//! println!("{}", client.health().await?.status);
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]
// Said once above: each call would repeat it.
#![allow(clippy::missing_errors_doc)]

mod apps;
mod audit;
mod base_url;
mod config;
mod error;
mod jwks;
mod keys;
mod ops;
mod policy;
mod probe;
mod reloading_client;
mod token;
mod transport;
mod trust;

pub use audit::{AuditPage, AuditQuery};
pub use config::{ClientCertificate, ClientConfig, ConfigError, Identity, Trust};
pub use error::{Class, Error, Refusal};
pub use jwks::{Jwk, Jwks};
pub use ops::{Dated, Failing, Readiness};
pub use policy::Epoched;
pub use probe::{TlsFacts, TlsProblem};
pub use token::Renewal;
pub use transport::BrokerClient;
