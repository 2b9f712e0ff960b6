//! Load on a broker process, for programs of their own: the benchmark (`tests/bench`) and the kill -9 test (`tests/crash`).
//!
//! The broker is a black box here: what is known of it is its HTTP contract, its settings and what `/proc` says. Nothing
//! here panics when the broker fails: a broken connection is what the kill -9 test waits for. So the connection and the
//! process have types of their own beside `Process` and `send_over`: one keeps its connection and copies no answer, the
//! other runs on a core of its own and writes its log to a file.
#![deny(missing_docs)]

pub mod agent;
pub mod failure;
pub mod http;
pub mod moment;
pub mod process;
