//! The model, completely; and that each broken rule is found.

#![allow(clippy::panic, clippy::print_stdout, reason = "tests that say what they have found")]

use std::collections::BTreeSet;
use std::time::Instant;

use agentwrit_model::fault::Fault;
use agentwrit_model::properties::{
    ALWAYS, BITS, COMMITTED, DESCENDANTS, ENDED, FENCE, INDEXES, NO_OTHER_BITS, ONCE, PENDING_BITS, RENEWED_ONCE,
    RESTART, USED_ONCE,
};
use agentwrit_model::world::{Action, Half, World};
use stateright::{Checker, HasDiscoveries, Model};

/// Goes through all states of a world, and says how many there were.
#[allow(clippy::disallowed_methods, reason = "how long it takes is told, not judged")]
fn exhaust(half: Half, nodes: usize) {
    let begin = Instant::now();
    let checker = World::new(half, nodes, Fault::None).checker().spawn_bfs().join();
    println!(
        "model: {half:?} with {nodes} nodes: {} states, {} unique, depth {}, {:.1} s",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        begin.elapsed().as_secs_f64()
    );
    assert!(checker.is_done());
    checker.assert_properties();
    // Else a small change of the rules could leave little to be gone through.
    assert!(checker.unique_state_count() > 100_000);
}

#[test]
fn three_nodes_and_two_writers_keep_the_properties() {
    exhaust(Half::Writers, 3);
}

#[test]
fn three_nodes_and_a_lagging_view_keep_the_properties() {
    exhaust(Half::Reader, 3);
}

#[test]
fn two_nodes_with_writers_and_view_keep_the_properties() {
    exhaust(Half::Both, 2);
}

/// The shortest way to a state in which this property doesn't hold.
fn counterexample(world: World, property: &'static str) -> Vec<Action> {
    // Of the deepest states that are generated nothing is checked.
    for depth in 2..=12 {
        let checker = world
            .checker()
            .target_max_depth(depth)
            .finish_when(HasDiscoveries::AllOf(BTreeSet::from([property])))
            .spawn_bfs()
            .join();
        if let Some(way) = checker.discovery(property) {
            return way.into_actions();
        }
    }
    panic!("{property:?} holds in all states that are 11 steps away");
}

#[track_caller]
fn finds(fault: Fault, half: Half, property: &'static str, steps: usize) {
    let way = counterexample(World::new(half, 3, fault), property);
    println!("{fault:?}: not {property:?} after {} steps", way.len());
    for action in &way {
        println!("  {action:?}");
    }
    assert_eq!(way.len(), steps);
}

#[test]
fn a_use_that_is_not_conditional_is_found() {
    finds(Fault::UseNotConditional, Half::Writers, USED_ONCE, 4);
}

#[test]
fn a_feed_before_the_commit_is_found() {
    finds(Fault::FeedBeforeCommit, Half::Reader, COMMITTED, 2);
}

#[test]
fn an_index_that_is_reused_early_is_found() {
    finds(Fault::IndexReusedEarly, Half::Writers, INDEXES, 5);
}

/// Beside the three above, one for each property that must always hold.
const FAULTS: [(Fault, Half, &str, usize); 13] = [
    (Fault::RenewalNotConditional, Half::Writers, RENEWED_ONCE, 6),
    (Fault::NumberBeforeCommit, Half::Reader, ENDED, 10),
    (Fault::StaleViewAnswers, Half::Reader, ENDED, 3),
    (Fault::AncestorsNotChecked, Half::Reader, DESCENDANTS, 3),
    (Fault::BitsBelowForgotten, Half::Writers, BITS, 4),
    (Fault::SupersededBitForgotten, Half::Writers, PENDING_BITS, 4),
    (Fault::SupersededBitForgotten, Half::Writers, BITS, 5),
    (Fault::SupersededBitEarly, Half::Writers, NO_OTHER_BITS, 4),
    (Fault::RestartWithoutLoad, Half::Reader, RESTART, 4),
    (Fault::RestartWithoutMinIat, Half::Reader, RESTART, 4),
    (Fault::NoFence, Half::Writers, FENCE, 2),
    (Fault::UnknownTakenForDone, Half::Writers, ONCE, 2),
    (Fault::UnknownDoneAgain, Half::Writers, ONCE, 3),
];

#[test]
fn every_other_broken_rule_is_found() {
    for (fault, half, property, steps) in FAULTS {
        finds(fault, half, property, steps);
    }
}

#[test]
fn each_property_is_broken_by_a_fault() {
    let broken = FAULTS.map(|(_, _, property, _)| property);
    let broken: BTreeSet<_> = broken.into_iter().chain([USED_ONCE, COMMITTED, INDEXES]).collect();
    assert_eq!(broken, ALWAYS.map(|(name, _)| name).into());
}
