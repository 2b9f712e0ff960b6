//! The embedded store: SQLite in one file (WAL, `synchronous=FULL`) or in memory.

mod apps;
mod audit;
mod chain;
pub(crate) mod committer;
mod launch;
pub(crate) mod matches;
mod meta;
pub(crate) mod open;
mod pages;
mod policy;
pub(crate) mod readers;
mod restored;
mod revocation;
mod schema;
pub(crate) mod segments;
mod session;
mod short;
mod statements;
pub(crate) mod tx;

pub(crate) use committer::Shared;
pub(crate) use tx::SqliteTx;
