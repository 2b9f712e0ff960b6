//! The API over real HTTP: the real router, the real SQLite store, time and Kubernetes under the test's control.
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

mod admin;
mod app_auth;
mod app_launch;
mod app_program;
mod apps;
mod asked;
mod audit;
mod background;
mod backup;
mod bearer;
mod busy;
mod chain;
mod clocks;
mod delegate;
mod denials;
mod disk;
mod event_bounds;
mod exposition;
mod front;
mod hello;
mod keys;
mod lifecycle;
mod limits;
mod metrics;
mod nbf_skew;
mod no_randomness;
mod program;
mod public;
mod register;
mod restored;
mod retention;
mod revoke;
mod scopes;
mod shutdown;
mod startup;
mod status_lists;
mod store;
mod tls;
mod tls_program;
mod token_size;

const PROGRAM: agentwrit_testkit::Program = agentwrit_testkit::Program(env!("CARGO_BIN_EXE_agentwrit-broker"));
