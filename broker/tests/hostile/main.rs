//! Hostile and broken input: every answer is in order, no handler panics, no secret is told. That none panics is
//! looked at when a test lets its `Harness` or its `Watched` program go.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::needless_pass_by_value,
    clippy::too_many_lines,
    unreachable_pub
)]

mod canary;
mod crowds;
mod load;
mod single_use;
mod tokens;

const PROGRAM: agentwrit_testkit::Program = agentwrit_testkit::Program(env!("CARGO_BIN_EXE_agentwrit-broker"));
