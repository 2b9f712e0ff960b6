//! A broker over the real router and SQLite, with an API server that answers what the test says.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::missing_panics_doc)]

mod cluster;
mod world;

pub use cluster::{AUDIENCE, CONTROLLER, FakeCluster, token};
pub use world::{Answer, Keys, Launched, Pod, World};
