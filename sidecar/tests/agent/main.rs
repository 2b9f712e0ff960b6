//! Named sequences: what happens, when, and what the agent then wants.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    unreachable_pub
)]

mod clocks;
mod decisions;
mod pod;
mod renewal;
mod restart;
mod start;
mod stopping;
mod validation;
