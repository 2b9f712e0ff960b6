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
    dead_code,
    unreachable_pub
)]

mod api_server;
mod canary;
mod crowds;
mod load;
#[path = "../api/process.rs"]
mod process;
mod single_use;
#[path = "../api/support.rs"]
mod support;
mod tokens;
mod watched;
