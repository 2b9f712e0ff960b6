//! What the tests share, so that a test file says only what is special to it.
//!
//! * [`FakeBroker`]: an HTTP server that answers as a test says and remembers what it was asked.
//! * [`Program`], [`Process`], [`Watched`]: a broker as a child process.
//! * [`Keys`], [`registration`], [`claims`]: what an agent does.
//! * [`Answer`], [`send_over`]: one request, and what the broker answered.
//! * [`Pod`], [`ApiServer`]: pods, and the Kubernetes that a broker in a child process asks about them.
//!
//! With the feature `tls`, `Authority`: certificates.
//! With the feature `load`, the module `load`: clients and a broker process for the programs that measure or kill one.
//! With the feature `postgres`, the module `postgres`: a server of the test's own.
//!
//! With the feature `broker`:
//! * `Setup`, `Broker`: the one way to start a broker in process, with a port of its own or without one.
//! * `ThreadedBroker`: such a broker for tests without a runtime.
//! * `Harness`: such a broker on a port, and people, apps and agents that call it.
//! * `World`: such a broker in a cluster, with policies and pods.
//! * `FakeCluster`: the Kubernetes that it asks.
//! * The module `stores`: a file for each of them, or a database, as `AGENTWRIT_STORE` says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::needless_pass_by_value,
    clippy::missing_panics_doc,
    clippy::missing_errors_doc,
    reason = "a test ends where something is not as it should be"
)]

mod answer;
mod api_server;
mod blocking;
#[cfg(feature = "tls")]
mod certificates;
mod fake_broker;
mod http;
mod keys;
#[cfg(feature = "load")]
pub mod load;
mod pod;
mod process;
mod watched;

pub use answer::{Answer, send_over};
pub use api_server::ApiServer;
pub use blocking::Pending;
#[cfg(feature = "tls")]
pub use certificates::{Authority, Issued};
pub use fake_broker::{Call, FakeBroker, FakeReply};
pub use keys::{Keys, claims, registration, unsigned_token};
pub use pod::{AUDIENCE, CONTROLLER, Pod, controller, service_account_token};
pub use process::{Process, Program};
pub use watched::Watched;

#[cfg(feature = "postgres")]
pub use agentwrit_store_postgres::testing as postgres;

#[cfg(feature = "broker")]
mod broker;
#[cfg(feature = "broker")]
mod fake_cluster;
#[cfg(feature = "broker")]
mod harness;
#[cfg(feature = "broker")]
mod setup;
#[cfg(feature = "broker")]
mod status_bit;
#[cfg(feature = "broker")]
pub mod stores;
#[cfg(feature = "broker")]
mod threaded;
#[cfg(feature = "broker")]
mod world;

#[cfg(feature = "broker")]
pub use broker::Broker;
#[cfg(feature = "broker")]
pub use fake_cluster::FakeCluster;
#[cfg(feature = "broker")]
pub use harness::{App, Harness};
#[cfg(feature = "broker")]
pub use setup::Setup;
#[cfg(feature = "broker")]
pub use threaded::ThreadedBroker;
#[cfg(feature = "broker")]
pub use world::{Launched, World};

/// The admin secret of every broker that is started here.
pub const ADMIN_SECRET: &str = "a-good-admin-secret";
/// Where the clock of every broker in process stands at first, Unix seconds.
pub const START: i64 = 1_800_000_000;

/// Puts the members of `changes` in the place of those of `body`.
pub fn merge(body: &mut serde_json::Value, changes: &serde_json::Value) {
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
}
