//! What must hold for any input: one function a target, which panics when it does not hold.
//!
//! `cargo-fuzz/` runs them under libFuzzer (`make fuzz`); `tests/corpus.rs` runs them over the committed corpus on any
//! toolchain.
#![deny(missing_docs)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a target panics to report what it has found"
)]

pub mod audit_query;
pub mod bodies;
pub mod config;
pub mod json;
pub mod jwt;
pub mod policies;
pub mod requests;
pub mod scopes;

mod answer;
mod template;
mod world;

pub use world::finish;

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name of the target, of its binary and of its corpus folder.
    pub name: &'static str,
    /// Panics when something does not hold for this input.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 8] = [
    Target {
        name: "audit_query",
        run: audit_query::run,
    },
    Target {
        name: "bodies",
        run: bodies::run,
    },
    Target {
        name: "config",
        run: config::run,
    },
    Target {
        name: "json",
        run: json::run,
    },
    Target {
        name: "jwt",
        run: jwt::run,
    },
    Target {
        name: "policies",
        run: policies::run,
    },
    Target {
        name: "requests",
        run: requests::run,
    },
    Target {
        name: "scopes",
        run: scopes::run,
    },
];
