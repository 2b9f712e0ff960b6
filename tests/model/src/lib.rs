//! What must hold of sessions, whoever fails when: a model of the rules that stateright goes through completely, and that
//! the real stores are held to, command by command.
//!
//! * [`rows`] and [`rules`]: what the store holds and what each command does to it, in small numbers. Time is counted in
//!   ticks, and only what is left of it is kept, so that there are finitely many states.
//! * [`world`], [`steps`] and [`view`]: replicas that run these commands in transactions, lose the answers of COMMITs and
//!   crash, and what one of them knows and accepts.
//! * [`properties`]: what holds in every state, and what must happen somewhere.
//! * [`fault`]: rules broken on purpose, to see that the checker notices.
//!
//! `tests/exhaustive.rs` checks the model; `tests/store/` gives the same commands to the stores.

#![allow(
    clippy::indexing_slicing,
    reason = "a model for tests: its numbers of nodes and replicas are its own"
)]

pub mod fault;
pub mod properties;
pub mod rows;
pub mod rules;
pub mod steps;
pub mod view;
pub mod world;
