//! The command line as a process, against a real broker and against one that answers as the test wants
//! (`docs/wire-contract.md` §18).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod apps;
mod brokers;
mod certificates;
mod commands;
mod docs;
mod doctor;
mod events;
mod failures;
mod init;
mod keys;
mod kill_switch;
mod support;
mod tls;
mod tokens;
mod verify;
