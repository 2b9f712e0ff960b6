//! The model's commands, given to the real stores: after each of them the store says what the model says.
//!
//! `AGENTWRIT_MODEL_CASES=2000 cargo test -p agentwrit-model --test store` tries more ways.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod attempt;
mod check;
mod embedded;
mod known;
mod reference;
mod replica;
mod server;
mod subject;
mod trail;
mod upkeep;

use embedded::{File, Memory};
use proptest::test_runner::Config;
use proptest_state_machine::prop_state_machine;
use server::Server;
use subject::Driven;

/// Few cases by default: each is a store of its own and up to 60 steps.
fn config(cases: u32) -> Config {
    let asked = std::env::var("AGENTWRIT_MODEL_CASES");
    Config {
        cases: asked.ok().and_then(|text| text.parse().ok()).unwrap_or(cases),
        // Each try of a shorter way is a case of its own.
        max_shrink_iters: 300,
        ..Config::default()
    }
}

prop_state_machine! {
    #![proptest_config(config(32))]
    #[test]
    fn a_store_in_memory_does_what_the_model_does(sequential 1..60 => Driven<Memory>);
}

prop_state_machine! {
    #![proptest_config(config(16))]
    #[test]
    fn a_store_in_a_file_does_what_the_model_does(sequential 1..60 => Driven<File>);
}

prop_state_machine! {
    #![proptest_config(config(6))]
    #[test]
    fn two_replicas_on_postgresql_do_what_the_model_does(sequential 1..60 => Driven<Server>);
}
