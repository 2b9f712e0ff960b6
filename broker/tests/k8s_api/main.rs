//! The attestation and policy API over the real router and SQLite, with an API server that answers what the test says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    unreachable_pub
)]

mod asked;
mod audiences;
mod before;
mod ceilings;
mod clients;
mod clocks;
mod crossings;
mod delegate;
mod denials;
mod event_bounds;
mod history;
mod kill_switch;
mod launch;
mod limits;
mod places;
mod pods;
mod policy;
mod proof;
mod quarantine;
mod renewal;
mod restored;
mod scopes;
mod sessions;
mod tables;
