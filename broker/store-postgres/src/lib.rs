//! The store on PostgreSQL 13 or newer.
//!
//! **One committer a process**, a task with a connection of its own, gathers the commands that wait into one transaction.
//! It begins with the lock of the one row of `chain_head`, whoever writes: so the audit chain of several replicas is one
//! and has no gaps, a command decides on what all batches before it have written, and no two transactions wait for each
//! other. What needs no answer is sent on the heels of what was sent before; what commands foresee is asked
//! for once a batch (`ahead.rs`), and any other question of a command costs a round trip.
//!
//! **A COMMIT whose answer is lost** is looked up: each committer notes the number of its batch in its row of
//! `committers`. The new connection takes the lock of the head first, so that the old transaction has ended when it reads.
//!
//! **The trail** is a table with a partition for each segment, named by the number of its first event. Its rows are only
//! appended; a segment goes by `drop_segment`, which checks what the broker's role can't be trusted with, and by
//! `sweep_segment`. `grant_broker` gives a role of the broker's own what it needs and no more.
//!
//! **Texts** with a NUL, which PostgreSQL doesn't take, are escaped on their way (`value.rs`): so that a name that
//! somebody sends can't fail the batches of others.
//!
//! **The feed** (`feed/`) keeps the revocation view of each replica as the store has it, and says how old it may be: one that
//! hasn't heard of the store for a second answers nothing, and each request asks the store.
//!
//! Limits of rate are of a process.
#![deny(missing_docs)]

#[macro_use]
mod columns;

mod advice;
mod ahead;
mod answers;
mod audit;
mod committer;
mod connector;
mod ends;
mod error;
mod facts;
mod feed;
mod handle;
mod held;
mod identity;
mod indexes;
mod link;
mod moving;
mod open;
mod options;
mod readers;
mod restored;
mod row;
mod rows;
mod schema;
mod settings;
mod shared;
mod status;
#[cfg(feature = "testing")]
pub mod testing;
mod transaction;
mod tx;
mod value;

pub use handle::PostgresStore;
pub use moving::{ArrivalError, Arrived, arrive};
pub use options::OpenOptions;
pub use settings::{Place, Settings, SettingsError, Transport};
