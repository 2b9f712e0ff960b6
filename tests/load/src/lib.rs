//! Load on a broker process, as its own program: the benchmark (`make bench-broker`) and the kill -9 test
//! (`scripts/crash.sh`).
//!
//! The broker is a black box here: what is known of it is its HTTP contract, its settings and what `/proc` says.
#![deny(missing_docs)]

pub mod agent;
pub mod bench;
pub mod crash;
pub mod failure;
pub mod http;
pub mod moment;
pub mod process;
