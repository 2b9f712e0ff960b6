//! kill -9 under load: what was acknowledged is there afterwards, nothing is there twice, and the chain verifies.
//!
//! Clients keep a ledger of what the broker has confirmed. Some rounds long, the broker is killed at a random moment and
//! started again on the same store; then the ledger is held against what the broker says. What was under way when it
//! died may have happened or not, but wholly: state and audit event together.
//!
//! [`restore`] does it with a backup that is put back: then nothing of before may count any more.
#![deny(missing_docs)]

pub mod check;
pub mod client;
pub mod ledger;
pub mod line;
pub mod program;
pub mod random;
pub mod restore;
pub mod run;
pub mod store;
pub mod tamper;
pub mod trail;
