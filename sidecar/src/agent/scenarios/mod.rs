//! Named sequences: what happens, when, and what the agent then wants.

mod clocks;
mod decisions;
mod pod;
mod renewal;
mod restart;
mod start;
mod stopping;
mod validation;
