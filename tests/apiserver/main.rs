//! CRDs, controller and webhook against a real API server; no node is needed.
//!
//! One controller, with a broker of our own making that speaks the policy API, serves all tests; each test has a
//! namespace of its own. `scripts/test.sh apiserver` starts the API server and sets KUBECONFIG. The tests of [`replicas`]
//! start controllers of their own, which would work on the objects of all others: they have a run of their own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::too_many_lines,
    unreachable_pub
)]

mod broker;
mod ca;
mod chart;
mod crds;
mod credentials;
mod debugging;
mod deletion;
mod keys;
mod lease;
mod namespace_deletion;
mod objects;
mod opt_in;
mod plugin;
mod plugins;
mod pods;
mod pods_with_sidecar;
mod policy;
mod replicas;
mod resources;
mod webhook;
mod world;
