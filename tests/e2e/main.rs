//! End-to-end tests on a real node with the chart installed (`scripts/test.sh e2e`): real pods, real kubelet, real
//! broker. They need KUBECONFIG and kubectl on the PATH, and run side by side, each in a namespace of its own; those
//! that take the broker away have the cluster to themselves meanwhile.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

mod support {
    pub(crate) mod broker;
    pub(crate) mod cluster;
    pub(crate) mod database;
    pub(crate) mod forward;
    pub(crate) mod node;
    pub(crate) mod pod;
    pub(crate) mod reader;
    pub(crate) mod registry;
    pub(crate) mod shop;
    pub(crate) mod terminal;
    pub(crate) mod wait;
}

mod broker_away;
mod chart;
mod documents;
mod identity;
mod injection;
mod keys;
mod launch;
mod pod_end;
mod renewal;
mod replicas;
mod revocation;
mod roles;
mod service;
mod start_gates;
mod waiting;
mod whole_installation;
